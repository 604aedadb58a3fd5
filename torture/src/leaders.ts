import { Cause, Effect, Fiber, Option, Stream } from "effect"
import { now, type Recorded } from "./events.ts"
import type { FaultWindows } from "./faultWindows.ts"
import type { Lags } from "./lags.ts"
import type { Lease } from "./lease.ts"
import type { ResourceClient } from "./resourceClient.ts"
import { lingeringOf, type Shape, until, type Work } from "./sections.ts"
import type { Subject } from "./subjects/subject.ts"

/** What all workers stand for. */
export const leaderKeys: ReadonlyArray<string> = ["leader-0", "leader-1"]

/** Milliseconds between two steps of a leader. */
const pace = 60

/** Milliseconds after which an observer that was refused begins anew. */
const observesAgainAfter = 200

/** Milliseconds after which one that hangs looks whether it has lost its lock. */
const looksAfter = 20

/** The share of leaders that take a moment to end when they are interrupted. The next one may not lead before. */
const lingering = 0.6

/**
 * Stands for a leadership again and again. A leader ends by itself, resigns, is interrupted while its lock is renewed, hangs,
 * or leads until something else ends its term.
 */
export const stands = (
  { random, sections, stopped, ttl, who }: Work,
  { lead }: Subject,
  client: ResourceClient,
  name: string,
  guard: number
): Effect.Effect<void> => {
  let count = 0
  const candidacy = Effect.suspend(() => {
    const ask = `${who}:${name}.${count++}`
    const asked = now()
    const way = random.weighted({ ends: 3, resigns: 3, interrupted: 4, hangs: 1, stays: 1 })
    const cooldown = ttl * random.between(0.2, 1)
    let isHealthy = true
    let [terms, last] = [0, undefined as string | undefined]
    client.tell({ t: "asked", ask, key: name, ttl, at: asked })
    /** The lock of a term is given back at some moment after its program has ended. */
    const over = () => {
      if (last === undefined) return
      client.tell({ t: "ended", ask: last, key: name, outcome: "done", waited: 0, at: now(), id: last })
      last = undefined
    }
    const run = lead!(
      {
        name,
        ttl,
        guard,
        cooldown,
        restart: way === "resigns" || random.chance(0.5) ? "always" : "never",
        healthy: Effect.sync(() => isHealthy),
        failed: (why) => client.tell({ t: "failed", what: name, why, from: asked, at: now() })
      },
      (handle) =>
        Effect.suspend(() => {
          over()
          const id = `${ask}/${terms++}`
          last = id
          isHealthy = true
          const hang = Effect.suspend(() => {
            isHealthy = false
            const end = now() + 3.5 * handle.ttl
            let hasLost = false
            // Only what its own process does to one that hangs is looked at: it ends with its lock.
            const lost = Effect.map(handle.lost, ({ isRevoked }) => {
              hasLost = isRevoked !== true
            })
            const isOver = Effect.sync(() => hasLost || stopped() || now() >= end)
            return Effect.flatMap(
              Effect.forkDetach(lost),
              (watcher) =>
                Effect.uninterruptible(
                  Effect.ensuring(
                    Effect.asVoid(Effect.repeat(Effect.delay(isOver, looksAfter), { until: (over) => over })),
                    Fiber.interrupt(watcher)
                  )
                )
            )
          })
          // Once: then it ends by itself.
          const isLast = terms > 1
          const resign = Effect.suspend(() => {
            client.tell({ t: "resigned", id, cooldown })
            return handle.resign ?? Effect.void
          })
          const shape: Shape = {
            steps: Math.ceil((way === "stays" ? random.between(3_000, 9_000) : ttl * random.between(0.3, 3)) / pace),
            pace,
            lingers: way === "hangs" ? 0 : lingeringOf(random, lingering, handle.ttl),
            ...(way === "resigns" && !isLast && { midway: resign }),
            ...(way === "hangs" && { midway: hang })
          }
          return sections.program({ key: name, ttl, way: "with" }, shape, handle, { ask, asked, id })
        })
    )
    const used = way === "interrupted"
      ? Effect.asVoid(Effect.timeoutOption(run, ttl * random.between(0.5, 4)))
      : Effect.asVoid(run)
    return Effect.onExit(used, () =>
      Effect.sync(() => {
        over()
        client.tell({ t: "ended", ask, key: name, outcome: "done", waited: 0, at: now(), id: undefined })
      }))
  })
  return until({ stopped }, Effect.andThen(candidacy, Effect.suspend(() => Effect.sleep(random.between(5, 100)))))
}

/** Tells who leads, as an observer hears of it. Where it was refused, it begins anew. */
export const observes = (
  { observe }: Subject,
  client: ResourceClient,
  name: string,
  stopped: () => boolean
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const from = now()
    return Effect.matchCauseEffect(
      Stream.runForEach(observe?.(name) ?? Stream.never, (term) =>
        Effect.sync(() =>
          client.tell({ t: "observed", key: name, token: term === undefined ? undefined : `${term}`, at: now() })
        )),
      {
        onSuccess: () =>
          Effect.sync(() =>
            client.tell({ t: "misled", what: `the observer of ${name} has ended` })
          ),
        onFailure: (cause) =>
          Effect.sync(() => {
            if (Cause.hasInterruptsOnly(cause)) return
            const error = Option.getOrUndefined(Cause.findErrorOption(cause))
            if (error?._tag !== "LockBackendError") {
              client.tell({ t: "misled", what: `the observer of ${name}: ${Cause.pretty(cause)}` })
            } else client.tell({ t: "failed", what: `the observer of ${name}`, why: error.message, from, at: now() })
          })
      }
    )
  }).pipe(
    Effect.andThen(Effect.sleep(observesAgainAfter)),
    Effect.forever,
    Effect.raceFirst(Effect.repeat(Effect.delay(Effect.sync(stopped), 100), { until: (over) => over }))
  )

type Told<T extends Recorded["t"]> = Recorded & { readonly t: T }

/** Milliseconds within which an observer knows of a leader while no fault hits what it is told. */
const observedWithin = 1_500

/** The same whatever messages it has lost: it looks every five seconds. */
const foundWithin = 6_500

/** What leaders and their observers told. */
export class LeaderHistories {
  readonly counts = { terms: 0, resignations: 0, "observed in time": 0 }
  /** Milliseconds from the end of a leader that ended well to the next one. */
  readonly gaps: Array<number> = []
  private readonly resigned = new Map<string, { readonly id: string; readonly cooldown: number }>()
  private readonly observed = new Map<string, Array<{ readonly token: string | undefined; readonly at: number }>>()
  private readonly leftAt = new Map<string, number>()
  private readonly faultWindows: FaultWindows
  private readonly lags: Lags

  constructor(faultWindows: FaultWindows, lags: Lags) {
    this.faultWindows = faultWindows
    this.lags = lags
  }

  resigns({ cooldown, id }: Told<"resigned">, { key, who }: Lease): void {
    this.counts.resignations++
    this.resigned.set(`${who}|${key}`, { id, cooldown })
  }

  /** Whoever stands by a call of its own need not wait for the cool-down of an earlier one. */
  asks(who: string, key: string): void {
    this.resigned.delete(`${who}|${key}`)
  }

  /** Somebody leads. Returns what says, when all is known, why it may not. */
  enters({ acquiredAt, key, who }: Lease, at: number, find: (id: string) => Lease | undefined) {
    this.counts.terms++
    const left = this.leftAt.get(key)
    this.leftAt.delete(key)
    if (left !== undefined) this.gaps.push(at - left)
    const before = this.resigned.get(`${who}|${key}`)
    const resigned = before && find(before.id)
    if (before === undefined || resigned === undefined) return undefined
    return (): string | undefined => {
      const { over } = resigned
      if (over === undefined) return undefined
      const cooled = acquiredAt - over
      const lag = this.lags.within(who, over - 200, acquiredAt) + this.lags.onTheWay(over - 200, acquiredAt)
      return cooled < before.cooldown - 20 - lag
        ? `${who} leads ${key} again after ${cooled.toFixed(0)} ms of ${before.cooldown.toFixed(0)}`
        : undefined
    }
  }

  observes({ at, key, token }: Told<"observed">): void {
    const all = this.observed.get(key) ?? []
    this.observed.set(key, all)
    all.push({ token, at })
    if (all.length > mostKept) all.shift()
  }

  /** A leader has ended. Returns what says, when all is known, whether an observer did not know of it. */
  leaves({ acquiredAt, key, lostAt, since, token }: Lease, at: number, isGone: boolean) {
    if (isGone || lostAt !== undefined) return undefined
    this.leftAt.set(key, at)
    return (): string | undefined => {
      const all = this.observed.get(key)
      const lag = this.lags.within(observer, acquiredAt, at) + this.lags.onTheWay(acquiredAt, at)
      const within = this.faultWindows.mayHaveHit(observer, key, acquiredAt, at) ? foundWithin : observedWithin
      if (all === undefined || at - acquiredAt - lag < within) return undefined
      if (this.faultWindows.wereServersAway(at - within, at)) return undefined
      if (this.faultWindows.findDataLoss(key, since, at) !== undefined) return undefined
      const known = all.findLast((one) => one.at <= at)?.token
      if (known !== `${token}`) {
        return `${key}: ${known ?? "nobody"} leads, says an observer, long after ${token} began to`
      }
      this.counts["observed in time"]++
      return undefined
    }
  }

  /** What is wrong if nobody led for so long. */
  leaderless({ at, from, key, limit }: Told<"leaderless">): string | undefined {
    if (this.faultWindows.wereServersAway(from, at)) return undefined
    return at - from - this.lags.ofAnybody(from, at) > limit
      ? `${key} for ${(at - from).toFixed(0)} ms`
      : undefined
  }
}

/** The process that observes who leads. */
const observer = "calm"

/** More than what observers tell while a term lasts. */
const mostKept = 200
