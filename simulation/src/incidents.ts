import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { interrupt } from "./client.ts"
import type { IncidentPlan } from "./plan.ts"
import type { ServerLog } from "./serverLog.ts"
import type { WorldContext } from "./worldContext.ts"

/** A holder that is inside makes the better target. */
const aim = (incident: IncidentPlan, { inside }: ServerLog): IncidentPlan => {
  const targets = Array.from(inside).filter(({ process }) => !process.dead && !process.paused)
  const target = targets[incident.choice % targets.length]
  if (!incident.aimed || target === undefined) return incident
  const { key, number } = target.plan
  return { ...incident, process: target.process.index, key, section: number }
}

/** Injects an incident. */
export const injectIncident = (planned: IncidentPlan, context: WorldContext): void => {
  const { backend, clients, log, plan, timeline, observer } = context
  const incident = aim(planned, context.serverLog)
  const { duration, kind, name } = incident
  const client = clients[incident.process]!
  const until = Math.min(timeline.now + duration, Math.max(timeline.now, plan.healedAt))
  log.note(
    41,
    incident.choice,
    () => `${name}: ${kind} (process ${incident.process}, ${incident.key}, ${duration / 1_000} ms)`
  )
  switch (kind) {
    case "client paused": {
      // If pauses are the only faults, they find most while an answer is on its way.
      const inject = () => client.process.pause(Math.min(duration, Math.max(0, plan.healedAt - timeline.now)))
      if (!plan.dimensions.has("stalls") || incident.afterMessages === 0) return inject()
      return void client.triggers.push({ messagesLeft: incident.afterMessages, inject })
    }
    case "client crashed":
      observer.recordCrash(client.process)
      // In this scenario a process ends, not its machine: the system closes its connections.
      if (plan.dimensions.has("crowds")) backend.hangUp(incident.process)
      return client.process.crash()
    case "wall clock set":
      return client.process.jump((incident.choice % 2 === 0 ? 1 : -1) * duration / 1_000)
    case "locker closed":
      return client.process.deliver(() => Deferred.doneUnsafe(client.closing, Effect.void))
    case "interrupt": {
      const owner = clients.find(({ sections }) => sections.flat().some(({ plan }) => plan.number === incident.section))
      if (owner === undefined) return
      context.checker.counts.interrupts++
      if (incident.afterMessages > 0) {
        const inject = () => interrupt(owner, incident.section, timeline.now)
        return void owner.triggers.push({ messagesLeft: incident.afterMessages, inject })
      }
      return owner.process.deliver(() => interrupt(owner, incident.section, timeline.now))
    }
    // A client of another library knows only mutexes, so the key must be one.
    case "foreign lock":
      return plan.kind === "mutex" ? backend.inject(incident, until) : undefined
    default:
      return backend.inject(incident, until)
  }
}
