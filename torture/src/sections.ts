import { Effect, Exit, Fiber, Schedule, type Scope } from "effect"
import type { Assignment, Crowd, Keep } from "./assignment.ts"
import { type Move, now, type Outcome } from "./events.ts"
import { isExclusive, lockOf } from "./lockShape.ts"
import type { Random } from "./random.ts"
import type { ResourceClient } from "./resourceClient.ts"
import type { Ask, Handle, Subject } from "./subjects/subject.ts"

/** What a program does while it is inside. */
export interface Shape {
  readonly steps: number
  /** Milliseconds between two steps. */
  readonly pace: number
  /** For how many milliseconds it goes on after it was interrupted, while it may still have the lock. */
  readonly lingers?: number | undefined
  /** What it does in the midst of its steps. */
  readonly midway?: Effect.Effect<void>
  /** After how many of them a writer lets readers in, if it does. */
  readonly downgradesAfter?: number | undefined
}

/** Milliseconds between two steps of one that goes on after it was interrupted. */
const lingeringPace = 25

/** For how long a program goes on that does not end when it is interrupted: shorter than its claim stands, or longer. */
export const lingeringOf = (random: Random, share: number, ttl: number): number | undefined =>
  random.chance(share) ? ttl * (random.chance(0.6) ? random.between(0.05, 0.5) : random.between(1.2, 2)) : undefined

/** Settings of all sections of a run. */
export type Habits = Pick<Assignment, "strict" | "ending" | "guard" | "lingering">

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
      // Who has one of several keys and waits for the others lets it stand idle.
      if (ask.way !== "try" && ask.also === undefined) {
        this.client.tell({ t: "asked", ask: waiter, key: ask.key, ttl: ask.ttl, at: since, ...lockIn(ask) })
      }
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
          id = waiter
          const programs = [handle, ...handle.others ?? []].map((one, index) => {
            const key = index === 0 ? ask.key : ask.also![index - 1]!
            const name = index === 0 ? waiter : `${waiter}+${index}`
            return this.program({ ...ask, key }, shape, one, { ask: waiter, asked: since, id: name })
          })
          return Effect.ensuring(
            Effect.all(programs, { concurrency: "unbounded", discard: true }),
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

  /** What is done under a lock that is held, and all reports of it. */
  readonly program = (
    of: Ask,
    shape: Shape,
    handle: Handle,
    { ask, asked, id }: { readonly ask: string; readonly asked: number; readonly id: string }
  ): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { age, token, ttl } = handle
      const { lingers } = shape
      this.count++
      let hasLost = false
      this.client.tell({
        t: "acquired",
        id,
        key: of.key,
        ttl,
        age,
        ask,
        asked,
        at: now(),
        token: token === undefined ? undefined : `${token}`,
        ...(lingers !== undefined && { lingers: true as const }),
        ...lockIn(of)
      })
      const lost = Effect.map(handle.lost, ({ ago, isRevoked, reason }) => {
        // Who was asked to leave has the lock until its program has ended, or its claim has run out.
        hasLost = isRevoked !== true
        this.client.tell({ t: "lost", id, at: now(), reason, ago, ...(isRevoked === true && { revoked: true }) })
      })
      const told = Effect.map(
        handle.revocation ?? Effect.never,
        () => this.client.tell({ t: "told", id, at: now() })
      )
      const watch = Effect.all([lost, told].map((one) => Effect.forkDetach(one, { startImmediately: true })))
      const steps = Effect.gen({ self: this }, function*() {
        // A refused step does not stop it. Only the lock's report of a loss does.
        yield* this.step("enter", id, handle)
        for (let step = 0; step < shape.steps && !this.stopped(); step++) {
          if (step === shape.downgradesAfter && handle.downgrade !== undefined) {
            // From here on it counts as a reader, whatever becomes of the call.
            yield* this.step("downgrade", id, handle)
            yield* handle.downgrade
          }
          if (step === Math.floor(shape.steps / 2) && shape.midway !== undefined) yield* shape.midway
          yield* Effect.sleep(shape.pace)
          yield* this.step("step", id, handle)
        }
      })
      const lingering = Effect.gen({ self: this }, function*() {
        for (const until = now() + (lingers ?? 0); now() < until && !hasLost && !this.stopped();) {
          yield* Effect.sleep(lingeringPace)
          if (!hasLost) yield* this.step("step", id, handle)
        }
      })
      return Effect.acquireUseRelease(
        watch,
        () => steps,
        (watchers, exit) =>
          // A loss is reported first. The resource hears of the end before the lock is released.
          Effect.sleep(this.habits.ending).pipe(
            Effect.andThen(Exit.isFailure(exit) ? lingering : Effect.void),
            Effect.andThen(this.step("exit", id, handle)),
            Effect.andThen(Effect.asVoid(Effect.forkDetach(later(Fiber.interruptAll(watchers)))))
          )
      )
    })

  /** Says so to the resource, and whether the lock was still held by its own word right before. */
  private readonly step = (t: Move, id: string, { holds }: Handle): Effect.Effect<boolean> =>
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

const lockIn = ({ lock }: Ask) => lock === undefined ? {} : { lock }

const later = <A>(effect: Effect.Effect<A>) => Effect.delay(effect, 50)

const interrupted = (section: Effect.Effect<Outcome>, patience: number): Effect.Effect<Outcome> =>
  Effect.map(Effect.timeoutOption(section, patience), (exit) => exit._tag === "Some" ? exit.value : "interrupted")

/** What the fibers of a worker need until they are told to stop. */
export interface Work {
  readonly sections: Sections
  readonly random: Random
  readonly ttl: number
  readonly who: string
  /** The share of writers among the sections of a read-write lock. */
  readonly writers: number
  /** The share of programs that do not end when they are interrupted, while they may still have the lock. */
  readonly lingering: number
  readonly stopped: () => boolean
}

export const until = <A, R>(
  { stopped }: Pick<Work, "stopped">,
  one: Effect.Effect<A, never, R>
): Effect.Effect<void, never, R> =>
  Effect.repeat(Effect.suspend(() => stopped() ? Effect.succeed(true) : Effect.as(one, false)), {
    until: (over) => over
  })

/** Uses a lock in many ways, on a key that others use too. A program may be longer than the `ttl`. */
export const busy = (work: Work, key: string, long: number, rest: number): Effect.Effect<void, never, Scope.Scope> =>
  until(
    work,
    Effect.suspend(() => {
      const { random, sections, ttl, who, writers } = work
      const lock = lockOf(key, who, writers, random)
      const isWriter = lock.kind === "readWrite" && isExclusive(lock)
      const lingers = lingeringOf(random, work.lingering, ttl)
      const usual: Shape = random.chance(long)
        ? { steps: 12, pace: ttl * random.between(0.09, 0.2), lingers }
        : { steps: Math.floor(random.between(0, 6)), pace: random.between(2, 20), lingers }
      const shape = isWriter && random.chance(0.5)
        ? { ...usual, downgradesAfter: Math.floor(random.between(0, usual.steps)) }
        : usual
      const way = random.weighted({ with: 6, scoped: 2, try: 2 })
      const timeout = random.chance(0.15) && way !== "try" ? { timeout: ttl * random.between(0.2, 1.5) } : {}
      const patience = random.chance(0.15) ? ttl * random.between(0, 1.5) : undefined
      return Effect.flatMap(
        sections.run({ key, ttl, way, ...timeout, ...(lock.kind !== "mutex" && { lock }) }, shape, patience),
        // After a busy lock it waits before the next try.
        (outcome) => Effect.sleep(outcome === "done" ? random.between(0, rest) : random.between(20, 150 + rest))
      )
    })
  )

/** Wants some of these keys at once, in any combination and any order. */
export const several = (work: Work, keys: ReadonlyArray<string>, rest: number): Effect.Effect<void> =>
  until(
    work,
    Effect.suspend(() => {
      const { random, sections, ttl } = work
      const shuffled = keys.map((key) => ({ key, at: random.between(0, 1) })).toSorted((a, b) => a.at - b.at)
      const [key, ...also] = shuffled.slice(0, Math.ceil(random.between(0.001, keys.length))).map(({ key }) => key)
      const lingers = lingeringOf(random, work.lingering, ttl)
      const shape: Shape = random.chance(0.1)
        ? { steps: 12, pace: ttl * random.between(0.09, 0.2), lingers }
        : { steps: Math.floor(random.between(0, 4)), pace: random.between(2, 10), lingers }
      const way = random.weighted({ with: 6, scoped: 2, try: 2 })
      const timeout = random.chance(0.15) && way !== "try" ? { timeout: ttl * random.between(0.2, 1.5) } : {}
      const patience = random.chance(0.15) ? ttl * random.between(0, 1.5) : undefined
      return Effect.andThen(
        sections.run({ key: key!, also, ttl, way, ...timeout }, shape, patience),
        Effect.sleep(random.between(5, 50 + rest))
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
