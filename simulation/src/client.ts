import { LockAdmin, Locker, LockStore } from "effect-dlock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Acts from "./acts.ts"
import { observeLeaders, runLeader } from "./leaders.ts"
import { guarded, Thrown } from "./process.ts"
import * as Program from "./program.ts"
import { prefix, type Section } from "./section.ts"
import { millis } from "./timeline.ts"
import type { Variant } from "./variants.ts"
import type { Client, WorldContext } from "./worldContext.ts"

/** Starts a process: its layer, and the programs that use it. */
export const start = (
  client: Client,
  { backend, plan, observer, serverLog, timeline }: WorldContext,
  variant: Variant | undefined
): void => {
  const { process } = client
  const onMessage = () => {
    for (const trigger of client.triggers.slice()) {
      if (--trigger.messagesLeft > 0) continue
      client.triggers.splice(client.triggers.indexOf(trigger), 1)
      // It may hit a fiber with an observer that throws, and must not disturb the current callback.
      guarded(() => trigger.inject())
    }
  }
  const services = Effect.map(backend.open(process, onMessage), ({ admin, store }) => {
    const changed = variant?.store?.(store, process) ?? store
    const recorded: LockStore["Service"] = {
      ...changed,
      request: (claim, mode) => {
        serverLog.recordShape(claim)
        return changed.request(claim, mode)
      },
      requestAll: (claims, mode) => {
        for (const claim of claims) serverLog.recordShape(claim)
        return changed.requestAll!(claims, mode)
      },
      withdraw: (claim) => {
        serverLog.recordLeaving(claim.key, claim.id)
        return changed.withdraw(claim)
      },
      withdrawAll: (claims) => {
        for (const { id, key } of claims) serverLog.recordLeaving(key, id)
        return changed.withdrawAll!(claims)
      }
    }
    return Context.make(LockStore, recorded).pipe(Context.add(LockAdmin, variant?.admin?.(admin) ?? admin))
  })
  const layer = Locker.layer({ prefix, holder: `process-${process.index}` }).pipe(
    Layer.provide(Layer.effectContext(services))
  )
  /** The process ends a moment later, without any clean-up. */
  const crash = () =>
    void timeline.in(millis(acted), () => {
      observer.recordCrash(process)
      process.crash()
    })
  const program = (locker: Locker["Service"], sections: ReadonlyArray<Section>) =>
    Effect.forEach(sections, (section) =>
      Effect.gen(function*() {
        // Without a delay it asks again in the same turn of the event loop.
        if (section.plan.delay > 0) yield* Effect.sleep(section.plan.delay)
        const fiber = yield* Effect.forkDetach(runOf(section)(observer, locker, section), { startImmediately: true })
        client.running.set(section.plan.number, fiber)
        yield* plan.dimensions.has("observers") ? observed(fiber) : Fiber.await(fiber)
        client.running.delete(section.plan.number)
      }), { discard: true })
  const all = Effect.gen(function*() {
    const programs = yield* Effect.scoped(Effect.gen(function*() {
      const locker = Context.get(yield* Layer.build(layer), Locker)
      const programs = yield* Effect.forEach(
        client.sections,
        (sections) => Effect.forkDetach(program(locker, sections))
      )
      const operators = yield* Effect.forEach(
        plan.acts[process.index] ?? [],
        (act) => Effect.forkDetach(Acts.run(observer, process, locker, act, crash))
      )
      const watching = plan.observers.includes(process.index)
        ? [yield* Effect.forkDetach(observeLeaders(observer.leaders, locker, process, plan))]
        : []
      const all = [...programs, ...operators, ...watching]
      yield* Effect.raceFirst(Fiber.awaitAll(all), Deferred.await(client.closing))
      return all
    }))
    // If the locker was closed while they ran, they must end by themselves.
    yield* Fiber.awaitAll(programs)
    const left = plan.dimensions.has("closing") ? observer.server.claimsOf?.(process.index) ?? [] : []
    for (const claim of left) observer.report("S4", `process ${process.index} has closed its locker, and ${claim}`)
    client.done = true
    observer.closed.add(process.index)
    // Fibers that were interrupted when the locker closed end in this turn. This fiber is still running.
    yield* Effect.yieldNow
    const fibers = process.fibers - 1
    if (fibers > 0) observer.report("S8", `${fibers} fibers of process ${process.index} are left`)
    if (process.timers > 0) observer.report("S8", `${process.timers} timers of process ${process.index} are left`)
  })
  process.run(all)
}

const runOf = ({ plan: { leads } }: Section) => leads === undefined ? Program.run : runLeader

/** Milliseconds after which an operator who has asked may be gone. */
const acted = 3

/** Waits for the end of a fiber, with an observer that throws. */
const observed = (fiber: Fiber.Fiber<void>): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (fiber.pollUnsafe() !== undefined) return resume(Effect.void)
    fiber.addObserver(() => {
      resume(Effect.void)
      throw new Thrown("on purpose")
    })
  })

/** Interrupts the program of a section, if it runs. */
export const interrupt = ({ running, sections }: Client, number: number, now: number): void => {
  const section = sections.flat().find(({ plan }) => plan.number === number)
  const fiber = running.get(number)
  if (section === undefined || fiber === undefined) return
  if (!section.interrupted) {
    for (const part of section.all) {
      if (part.state !== "acquiring") continue
      part.expectEndFrom(now)
      part.expectAnswerFromNow()
    }
  }
  section.interrupt()
  fiber.interruptUnsafe()
}
