import { Effect, Fiber } from "effect"
import { LockBackendError, type LockInfo } from "effect-dlock"
import { now } from "./events.ts"
import type { Random } from "./random.ts"
import type { ResourceClient } from "./resourceClient.ts"
import { until } from "./sections.ts"
import type { Operator } from "./subjects/subject.ts"

export interface OperatorOptions {
  /** Keys whose holders are asked to leave. */
  readonly keys: ReadonlyArray<string>
  readonly ttl: number
  readonly stopped: () => boolean
}

/** Milliseconds between two looks at a hold that was asked to leave, and for how long it is looked at. */
const look = 50
const longestLook = 30_000

/** How many keys it looks at at once: some of its calls wait for servers that do not answer. */
const atATime = 2

/** Numbers of the faults that an operator makes, apart from those of the nemesis. */
const firstFault = 1_000_000

/**
 * The id of a claim: 22 characters of base64url. It is what a release is authorized by, so nobody may learn it. A key is
 * what its callers have named it.
 */
export const claimIdsIn = (value: unknown): ReadonlyArray<string> =>
  typeof value === "string"
    ? value.match(/(?<![\w-])[\w-]{22}(?![\w-])/g) ?? []
    : typeof value === "object" && value !== null
    ? Object.entries(value).flatMap(([name, one]) => name === "key" ? [] : claimIdsIn(one))
    : []

/**
 * Looks at locks whatever faults hit their servers, asks holders to leave, sometimes with a token that is long over, and
 * rarely breaks a lock.
 */
export const operate = (
  operator: Operator,
  client: ResourceClient,
  random: Random,
  { keys, stopped, ttl }: OperatorOptions
): Effect.Effect<void> => {
  const over = new Map<string, Set<bigint>>()
  const underWay: Array<Fiber.Fiber<void>> = []
  let faults = firstFault
  const mislead = (what: string) => client.tell({ t: "misled", what })

  /** A result, unless the backend does not answer. Any other failure is wrong. */
  const answered = <A>(what: string, call: Effect.Effect<A, unknown>): Effect.Effect<A | undefined> =>
    Effect.matchCause(call, {
      onSuccess: (value) => value,
      onFailure: ({ reasons }) => {
        const wrong = reasons.find((reason) => reason._tag !== "Fail" || !(reason.error instanceof LockBackendError))
        if (wrong !== undefined) mislead(`${what} failed: ${JSON.stringify(wrong).slice(0, 300)}`)
        return undefined
      }
    })
  const checked = (what: string, infos: ReadonlyArray<LockInfo>): void => {
    const [id] = claimIdsIn(infos)
    if (id !== undefined) mislead(`${what} shows ${id}, the id of a claim`)
  }
  const inspect = (key: string): Effect.Effect<LockInfo | undefined> =>
    Effect.map(answered(`inspect of ${key}`, operator.inspect(key)), (info) => {
      if (info !== undefined) checked(`inspect of ${key}`, [info])
      return info
    })

  const list = Effect.suspend(() => {
    const from = now()
    return Effect.map(answered("list", operator.list), (infos) => {
      if (infos === undefined) return
      checked("list", infos)
      const held = infos.filter(({ holderCount }) => holderCount > 0)
      client.tell({ t: "listed", keys: Array.from(new Set(held.map(({ key }) => key))), from, at: now() })
    })
  })

  /** Until it is over. */
  const follow = (key: string, token: bigint, grace: number): Effect.Effect<void> =>
    Effect.gen(function*() {
      const from = now()
      for (let seenUntil = from; !stopped();) {
        const askedAt = now()
        const info = yield* inspect(key)
        const isThere = info?.holders.some((holder) => holder.token === token)
        // Of very many holders only some are told.
        if (info !== undefined && info.holderCount > info.holders.length) return
        if (isThere === true) seenUntil = askedAt
        if (isThere === false || now() - from > longestLook) {
          const isOver = isThere === false
          client.tell({ t: "freed", key, token: `${token}`, grace, from, seenUntil, at: now(), isOver })
          return
        }
        yield* Effect.sleep(look)
      }
    })

  const revoke = (key: string, token: bigint, grace: number): Effect.Effect<void> =>
    Effect.asVoid(answered(`revoke of ${key}`, operator.revoke(key, { token, grace, why: "a test" })))
  operator.onAsked((asking) => {
    const { answer, key, token } = asking
    client.tell({ t: "revoked", ...asking, token: `${token}` })
    if (answer === "notHeld") noteOver(key, token)
    if (answer === "asked") underWay.push(Effect.runFork(follow(key, token, asking.grace)))
  })

  const breakLock = (key: string, token: bigint): Effect.Effect<void> =>
    Effect.suspend(() => {
      const n = faults++
      client.tell({
        t: "fault",
        n,
        kind: "break the lock",
        from: now(),
        workers: "all",
        forgets: [key],
        hit: true,
        harmless: true
      })
      return Effect.ensuring(
        Effect.asVoid(answered(`break of ${key}`, operator.breakLock(key, token))),
        Effect.sync(() => client.tell({ t: "healed", n, to: now() }))
      )
    })

  const noteOver = (key: string, token: bigint) => {
    const tokens = over.get(key) ?? new Set()
    over.set(key, tokens.add(token))
  }
  const seen = new Map<string, ReadonlyArray<bigint>>()
  /** Remembers the tokens that were held, and those that are no more. */
  const note = ({ holderCount, holders, key }: LockInfo) => {
    const tokens = holders.map(({ token }) => token)
    if (holderCount === tokens.length) {
      for (const token of seen.get(key) ?? []) if (!tokens.includes(token)) noteOver(key, token)
    }
    seen.set(key, tokens)
  }

  const one = Effect.gen(function*() {
    const key = random.pick(keys)
    const info = yield* inspect(key)
    if (info === undefined) return
    note(info)
    const way = random.weighted({ now: 4, grace: 4, stale: 3, late: 2, twice: 1, break: 0.2 })
    if (way === "stale") {
      const token = random.chance(0.7) ? Array.from(over.get(key) ?? []).at(-1) : (info.holders[0]?.token ?? 0n) + 1n
      if (token === undefined) return
      const answer = yield* answered(`revoke of ${key}`, operator.revoke(key, { token, grace: 0, why: "stale" }))
      // A token that is not given yet may be by now.
      const isOver = over.get(key)?.has(token) === true
      if (isOver && answer !== undefined && answer !== "notHeld") {
        mislead(`${key} under ${token}, which is over: ${answer}`)
      }
      return
    }
    if (info.holders.length === 0) return
    const { token } = random.pick(info.holders)
    if (way === "break") return yield* breakLock(key, token)
    // Whoever is slow finds another holder there, or none.
    if (way === "late") yield* Effect.sleep(random.between(20, ttl))
    const grace = way === "now" ? 0 : ttl * random.between(0.1, 1.5)
    const calls = way === "twice"
      ? [revoke(key, token, grace), revoke(key, token, grace / 3)]
      : [revoke(key, token, grace)]
    for (const call of calls) underWay.push(yield* Effect.forkDetach(call))
  })
  const pause = (least: number, most: number) => Effect.suspend(() => Effect.sleep(random.between(least, most)))
  return Effect.asVoid(
    Effect.all([
      ...Array.from({ length: atATime }, () => until({ stopped }, Effect.andThen(one, pause(100, 300)))),
      until({ stopped }, Effect.andThen(list, pause(500, 1_500)))
    ], { concurrency: "unbounded" }).pipe(Effect.andThen(Effect.suspend(() => Fiber.awaitAll(underWay))))
  )
}
