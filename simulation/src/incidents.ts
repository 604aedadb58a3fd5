import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { interrupt } from "./client.ts"
import type { Ledger } from "./ledger.ts"
import type { IncidentPlan } from "./plan.ts"
import type { Scene } from "./scene.ts"

/** Those who are inside make the better targets. */
const aim = (incident: IncidentPlan, { inside }: Ledger): IncidentPlan => {
  const targets = Array.from(inside).filter(({ process }) => !process.dead && !process.paused)
  const target = targets[incident.choice % targets.length]
  if (!incident.aimed || target === undefined) return incident
  const { key, number } = target.plan
  return { ...incident, process: target.process.index, key, section: number }
}

/** Has an incident happen. */
export const strike = (planned: IncidentPlan, scene: Scene): void => {
  const { backend, clients, log, plan, timeline, witness } = scene
  const incident = aim(planned, scene.ledger)
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
      // Where that is all that happens it is best when an answer is on its way.
      const strike = () => client.process.pause(Math.min(duration, Math.max(0, plan.healedAt - timeline.now)))
      if (!plan.has.has("sockets") || incident.afterMessages === 0) return strike()
      return void client.armed.push({ left: incident.afterMessages, strike })
    }
    case "client crashed":
      witness.crashes(client.process)
      // Where only that happens it is a process that ends, and not its machine.
      if (plan.has.has("crowds")) backend.hangUp(incident.process)
      return client.process.crash()
    case "wall clock set":
      return client.process.jump((incident.choice % 2 === 0 ? 1 : -1) * duration / 1_000)
    case "locker closed":
      return client.process.deliver(() => Deferred.doneUnsafe(client.closing, Effect.void))
    case "interrupt": {
      const owner = clients.find(({ sections }) => sections.flat().some(({ plan }) => plan.number === incident.section))
      if (owner === undefined) return
      scene.judge.counts.interrupts++
      if (incident.afterMessages > 0) {
        const strike = () => interrupt(owner, incident.section, timeline.now)
        return void owner.armed.push({ left: incident.afterMessages, strike })
      }
      return owner.process.deliver(() => interrupt(owner, incident.section, timeline.now))
    }
    // Another library's client knows mutexes only, and where it is the key is in use as one.
    case "foreign lock":
      return plan.capacity === 1 ? backend.strike(incident, until) : undefined
    default:
      return backend.strike(incident, until)
  }
}
