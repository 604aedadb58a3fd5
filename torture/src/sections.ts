import { Effect, Fiber, Schedule, type Scope } from "effect"
import type { Assignment, Crowd, Keep } from "./assignment.ts"
import { now, type Outcome } from "./events.ts"
import type { Random } from "./random.ts"
import type { ResourceClient } from "./resourceClient.ts"
import type { Ask, Handle, Subject } from "./subjects/subject.ts"

/** What a program does while it is inside. */
export interface Shape {
  readonly steps: number
  /** Milliseconds between two steps. */
  readonly pace: number
}

/** Settings of all sections of a run. */
export type Habits = Pick<Assignment, "strict" | "ending" | "guard">

/** Acquires locks, works under them, and reports all of it to the resource. */
export class Sections {
  /** The current waiters: which key, since when. */
  readonly waiting = new Map<string, { readonly key: string; readonly since: number }>()
  count = 0
  private readonly subject: Subject
  private readonly client: ResourceClient
  private readonly who: string
  private readonly stopped: () => boolean
  private readonly habits: Habits
  private next = 0

  constructor(subject: Subject, client: ResourceClient, who: string, habits: Habits, stopped: () => boolean) {
    this.habits = habits
    this.subject = subject
    this.stopped = stopped
    this.client = client
    this.who = who
  }

  /** One section from the request to its end. With `patience`, it is interrupted after so many milliseconds. */
  readonly run = (ask: Ask, shape: Shape, patience?: number): Effect.Effect<Outcome> =>
    Effect.suspend(() => {
      const waiter = `${this.who}:${this.next++}`
      const since = now()
      let grantedAt: number | undefined
      let leftAt: number | undefined
      let id: string | undefined
      this.waiting.set(waiter, { key: ask.key, since })
      if (ask.way !== "try") this.client.tell({ t: "asked", ask: waiter, key: ask.key, ttl: ask.ttl, at: since })
      const served = () => {
        grantedAt = now()
        this.waiting.delete(waiter)
      }
      const hasty = ask.timeout !== undefined || ask.way === "try"
      const failed = (why: string) =>
        this.client.tell({ t: "failed", what: ask.key, why, from: since, at: now(), ...(hasty && { hasty }) })
      const section = this.subject.hold({ ...ask, failed, guard: this.habits.guard }, (handle) =>
        Effect.suspend(() => {
          served()
          return Effect.ensuring(
            this.program(ask, shape, handle, { ask: waiter, asked: since, id: id = waiter }),
            Effect.sync(() => (leftAt = now()))
          )
        }))
      return (patience === undefined ? section : interrupted(section, patience)).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            this.waiting.delete(waiter)
            const at = now()
            const waited = (grantedAt ?? at) - since
            const outcome = exit._tag === "Success" ? exit.value : "interrupted"
            this.client.tell({ t: "ended", ask: waiter, key: ask.key, outcome, waited, at, id })
            const slack = ask.ttl + 1_000
            const { strict } = this.habits
            if (ask.timeout !== undefined) {
              this.limit(`an acquire of ${ask.key}`, waited, ask.timeout + (strict ?? slack), at)
            }
            // If the server is silent, a try waits for a second at most.
            if (ask.way === "try") {
              this.limit(`a try of ${ask.key}`, waited, strict === undefined ? slack : 1_000 + strict, at)
            }
            // A holder must leave first, and its release has its own limit.
            const interrupted = patience !== undefined && grantedAt === undefined
            if (interrupted) {
              this.limit(`an interrupt at ${ask.key}`, at - since, patience + (strict ?? 2 * slack), at)
            }
            if (leftAt !== undefined) {
              this.limit(`a release of ${ask.key}`, at - leftAt, slack, at)
            }
          })
        )
      )
    })

  private limit(what: string, took: number, limit: number, at: number): void {
    if (took > limit) this.client.tell({ t: "slow", what, took, limit, at })
  }

  private readonly program = (
    { key }: Ask,
    shape: Shape,
    handle: Handle,
    { ask, asked, id }: { readonly ask: string; readonly asked: number; readonly id: string }
  ): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { age, token, ttl } = handle
      this.count++
      this.client.tell({
        t: "acquired",
        id,
        key,
        ttl,
        age,
        ask,
        asked,
        at: now(),
        token: token === undefined ? undefined : `${token}`
      })
      const watch = Effect.map(
        handle.lost,
        ({ ago, reason }) => this.client.tell({ t: "lost", id, at: now(), reason, ago })
      )
      const steps = Effect.gen({ self: this }, function*() {
        // A refused step does not stop it. Only the lock's report of a loss does.
        yield* this.step("enter", id, handle)
        for (let step = 0; step < shape.steps && !this.stopped(); step++) {
          yield* Effect.sleep(shape.pace)
          yield* this.step("step", id, handle)
        }
      })
      return Effect.acquireUseRelease(
        Effect.forkDetach(watch, { startImmediately: true }),
        () => steps,
        (watcher) =>
          // A loss is reported first. The resource hears of the end before the lock is released.
          Effect.sleep(this.habits.ending).pipe(
            Effect.andThen(this.step("exit", id, handle)),
            Effect.andThen(Effect.asVoid(Effect.forkDetach(later(Fiber.interrupt(watcher)))))
          )
      )
    })

  /** Says so to the resource, and whether the lock was still held by its own word right before. */
  private readonly step = (t: "enter" | "step" | "exit", id: string, { holds }: Handle): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      const from = now()
      return Effect.flatMap(
        holds ?? Effect.succeed(false),
        (held) =>
          Effect.callback((resume) =>
            this.client.ask(
              { t, id, ...(held && { held: [from, now()] as const }) },
              (accepted) => resume(Effect.succeed(accepted))
            )
          )
      )
    })
}

const later = <A>(effect: Effect.Effect<A>) => Effect.delay(effect, 50)

const interrupted = (section: Effect.Effect<Outcome>, patience: number): Effect.Effect<Outcome> =>
  Effect.map(Effect.timeoutOption(section, patience), (exit) => exit._tag === "Some" ? exit.value : "interrupted")

/** What the fibers of a worker need until they are told to stop. */
export interface Work {
  readonly sections: Sections
  readonly random: Random
  readonly ttl: number
  readonly stopped: () => boolean
}

const until = <A, R>({ stopped }: Work, one: Effect.Effect<A, never, R>): Effect.Effect<void, never, R> =>
  Effect.repeat(Effect.suspend(() => stopped() ? Effect.succeed(true) : Effect.as(one, false)), {
    until: (over) => over
  })

/** Uses a lock in many ways, on a key that others use too. A program may be longer than the `ttl`. */
export const busy = (work: Work, key: string, long: number, rest: number): Effect.Effect<void, never, Scope.Scope> =>
  until(
    work,
    Effect.suspend(() => {
      const { random, sections, ttl } = work
      const shape = random.chance(long)
        ? { steps: 12, pace: ttl * random.between(0.09, 0.2) }
        : { steps: Math.floor(random.between(0, 6)), pace: random.between(2, 20) }
      const way = random.weighted({ with: 6, scoped: 2, try: 2 })
      const timeout = random.chance(0.15) && way !== "try" ? { timeout: ttl * random.between(0.2, 1.5) } : {}
      const patience = random.chance(0.15) ? ttl * random.between(0, 1.5) : undefined
      return Effect.flatMap(
        sections.run({ key, ttl, way, ...timeout }, shape, patience),
        // After a busy lock it waits before the next try.
        (outcome) => Effect.sleep(outcome === "done" ? random.between(0, rest) : random.between(20, 150 + rest))
      )
    })
  )

/** Waits for the lock, holds it for a moment, and waits again, until it is interrupted. */
const queues = ({ random, sections }: Work, key: string, ttl: number): Effect.Effect<void> =>
  Effect.forever(
    Effect.suspend(() =>
      Effect.andThen(
        sections.run({ key, ttl, way: "with" }, { steps: 2, pace: random.between(5, 20) }),
        Effect.sleep(random.between(1, 10))
      )
    )
  )

/** Many waiters for one key. All give up when the process is told to stop. */
export const crowd = (work: Work, { key, ttls, waiters }: Crowd): Effect.Effect<void> =>
  Effect.raceFirst(
    Effect.forEach(Array.from({ length: waiters }), () => queues(work, key, work.random.pick(ttls)), {
      concurrency: "unbounded",
      discard: true
    }),
    Effect.repeat(Effect.delay(Effect.sync(work.stopped), 100), { until: (over) => over })
  )

/** Holds one key for long, and leaves it to others for a moment. */
export const keeps = (work: Work, { key, millis, ttl }: Keep): Effect.Effect<void> => {
  const pace = 100
  return until(
    work,
    Effect.andThen(
      work.sections.run({ key, ttl, way: "with" }, { steps: millis / pace, pace }),
      Effect.sleep(1_500)
    )
  )
}

/** Acquires many keys at once and releases each at once. Failures are reported in one event. */
export const burst = (subject: Subject, client: ResourceClient, count: number, name: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    const from = now()
    let [fails, last] = [0, ""]
    const failed = (why: string) => {
      fails++
      last = why
    }
    const keys = Array.from({ length: count }, (_, index) => `burst-${name}-${index}`)
    const one = (key: string) => subject.hold({ key, ttl: 6_000, way: "with", failed }, () => Effect.void)
    const tell = Effect.sync(() => {
      if (fails > 0) client.tell({ t: "failed", what: `${fails} of ${count} at once`, why: last, from, at: now() })
    })
    return Effect.andThen(Effect.forEach(keys, one, { concurrency: "unbounded", discard: true }), tell)
  })

/** Gives up at some point of an acquire, and acquires again at once: no remains of the first acquire may block it. */
export const probe = (work: Work, key: string, client: ResourceClient): Effect.Effect<void, never, Scope.Scope> =>
  until(
    work,
    Effect.gen(function*() {
      const { random, sections, ttl } = work
      const from = now()
      if (random.chance(0.5)) {
        const holder = yield* Effect.forkChild(
          sections.run({ key, ttl, way: "with" }, { steps: 3, pace: 15 }),
          { startImmediately: true }
        )
        yield* Effect.sleep(random.between(5, 20))
        yield* sections.run({ key, ttl, way: "with" }, { steps: 0, pace: 0 }, random.between(1, 20))
        yield* Fiber.await(holder)
      } else {
        yield* sections.run({ key, ttl, way: "with" }, { steps: 1, pace: 5 }, random.between(0, 4))
      }
      const asked = now()
      yield* sections.run({ key, ttl, way: "with" }, { steps: 0, pace: 0 })
      const at = now()
      if (at - asked > ttl / 2) client.tell({ t: "ghost", key, waited: at - asked, from, at })
      yield* Effect.sleep(100)
    })
  )

/** Checks that a client is served after the faults. */
export const comesBack = (
  { sections, ttl }: Work,
  who: string,
  limit: number,
  client: ResourceClient
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const from = now()
    return sections.run({ key: `last-${who}`, ttl, way: "with" }, { steps: 0, pace: 0 }).pipe(
      Effect.repeat({ until: (outcome) => outcome === "done", schedule: Schedule.spaced(50) }),
      Effect.timeoutOrElse({
        duration: limit,
        orElse: () => Effect.sync(() => client.tell({ t: "unserved", waited: now() - from }))
      })
    )
  })
