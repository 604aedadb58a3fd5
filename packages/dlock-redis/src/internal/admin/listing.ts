/** Finds all locks whose names have the same beginning. */

import type { LockState } from "effect-dlock/LockAdmin"
import type { LockBackendError } from "effect-dlock/LockError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { backendError, fromClient } from "../client/failure.ts"
import { lacking } from "../client/permissions.ts"
import type { CallFailure, Port } from "../client/port.ts"
import * as Scripts from "../protocol/index.ts"
import { keysOf, type LockKeys, lockOfKey } from "../protocol/keys.ts"
import { chunks } from "../store/chunks.ts"

type Server = ReturnType<Port["servers"]>[number]

/**
 * The locks whose names begin with `beginning`, from all servers.
 *
 * A `SCAN` finds each key that exists throughout, on a server that stays the same. So before and after a pass through all
 * servers it looks whether they are the same, and have the same slots, none of which is on its way to another. If not, it
 * makes another pass: a lock may then come twice, but none is left out.
 */
export const list = (port: Port, keyPrefix: string, beginning: string): Stream.Stream<LockState, LockBackendError> => {
  const start = keyPrefix + beginning

  const inspect = ({ keys, via }: Found) =>
    Effect.map(Effect.retry(port.run(Scripts.inspect, { keys }), whileMoving), ({ value }) => {
      if (value === undefined || value.kind === undefined) return []
      // The key of a lock that one of our claims holds is there itself, and the lock is told when that is found.
      const isToldElsewhere = via === "queue" && value.holders.some(({ isForeign }) => !isForeign)
      return isToldElsewhere ? [] : [{ key: keys.lock.slice(keyPrefix.length), ...value }]
    })

  const scan = ({ ask }: Server): Stream.Stream<LockState, CallFailure> =>
    Stream.paginate(
      "0",
      (cursor) =>
        Effect.map(ask("SCAN", cursor, "MATCH", `*${escaped(start)}*`, "COUNT", String(keysPerScan)), (reply) => {
          const [next, names] = reply as readonly [unknown, ReadonlyArray<unknown>]
          const found = foundIn(names, start)
          return [
            chunks(found, locksPerBatch),
            String(next) === "0" ? Option.none() : Option.some(String(next))
          ] as const
        })
    ).pipe(
      Stream.mapEffect((batch) => Effect.forEach(batch, inspect, { concurrency: "unbounded" })),
      Stream.flatMap((states) => Stream.fromIterable(states.flat()))
    )

  const pass = (left: number): Stream.Stream<LockState, CallFailure> =>
    Stream.unwrap(Effect.map(viewOf(port), (before) =>
      Stream.concat(
        Stream.flatMap(Stream.fromIterable(before.servers), scan),
        Stream.unwrap(Effect.flatMap(viewOf(port), (after) => {
          if (before.isWhole && before.text === after.text) return Effect.succeed(Stream.empty)
          if (left === 1) return Effect.fail(moved)
          return Effect.as(Effect.andThen(port.probe, Effect.sleep(pauseBetweenPasses)), pass(left - 1))
        }))
      )))

  return Stream.mapError(pass(mostPasses), (failure) => backendError("list")(explained(failure)))
}

interface Found {
  readonly keys: LockKeys
  /** Which key of the lock was found. */
  readonly via: "lock" | "queue" | "holders"
}

/** The locks that these keys belong to, each once. */
const foundIn = (names: ReadonlyArray<unknown>, start: string): ReadonlyArray<Found> => {
  const found = new Map<string, Found>()
  for (const name of names) {
    const one = lockOfKey(String(name))
    if (one === undefined || !one.lock.startsWith(start)) continue
    const keys = keysOf(one.lock)
    const known = found.get(one.lock)?.via
    if (keys !== undefined && (known === undefined || known === "queue")) found.set(one.lock, { keys, via: one.via })
  }
  return Array.from(found.values())
}

/** A pattern that matches this text and nothing else. */
const escaped = (text: string): string => text.replaceAll(/[*?[\]\\^]/g, "\\$&")

/** The servers, and what must stay the same during a pass. */
interface View {
  readonly servers: ReadonlyArray<Server>
  readonly text: string
  /** Whether these servers have all slots, and none of them is on its way to another server. */
  readonly isWhole: boolean
}

const viewOf = (port: Port): Effect.Effect<View, CallFailure> =>
  Effect.suspend(() => {
    const servers = port.servers()
    return Effect.map(
      Effect.forEach(servers, ({ ask }) =>
        Effect.all([ask("INFO", "server"), port.slotOf === undefined ? Effect.succeed("") : ask("CLUSTER", "NODES")]), {
        concurrency: "unbounded"
      }),
      (answers) => {
        const run = answers.map(([info]) =>
          /run_id:\w+/.exec(String(info))?.[0] ?? ""
        )
        const slots = answers.map(([, nodes]) =>
          slotsIn(String(nodes))
        )
        const isWhole = port.slotOf === undefined ||
          (slots.every(({ isMoving }) => !isMoving) && slots.reduce((sum, { count }) => sum + count, 0) === 16_384)
        const texts = servers.map(({ name }, index) => `${name} ${run[index]} ${slots[index]!.text}`)
        return { servers, text: texts.sort().join("\n"), isWhole }
      }
    )
  })

/**
 * The slots of the node that answered a `CLUSTER NODES`: `0-5460` and `77` are its own, and `[93->-id]` or `[93-<-id]` is
 * one on its way.
 */
const slotsIn = (nodes: string): { readonly text: string; readonly count: number; readonly isMoving: boolean } => {
  const line = nodes.split("\n").find((one) => /\bmyself\b/.test(one)) ?? ""
  const [, , , , , , epoch = "", , ...slots] = line.trim().split(" ")
  let count = 0
  for (const slot of slots) {
    const range = /^(\d+)(?:-(\d+))?$/.exec(slot)
    if (range !== null) count += Number(range[2] ?? range[1]) - Number(range[1]) + 1
  }
  return { text: [epoch, ...slots].join(" "), count, isMoving: slots.some((slot) => slot.startsWith("[")) }
}

const explained = (failure: CallFailure): CallFailure => {
  const command = /'(scan|cluster\|?\w*|info)'/i.exec(failure.cause.message)?.[1]
  if (!/\bNOPERM\b/.test(failure.cause.message) || command === undefined) return failure
  return { ...failure, cause: lacking([`+${command}`], failure.cause) }
}

const moved: CallFailure = {
  ...fromClient(new Error("the servers or their slots kept changing while they were read, so locks may be missing")),
  retryable: true
}

/** While the slot of a lock moves, no node may answer for all its keys. */
const whileMoving = {
  while: ({ notDone, retryable }: CallFailure) => notDone && retryable,
  schedule: Schedule.spaced(100),
  times: 10
}

/** How many keys one `SCAN` looks at. It takes less than a millisecond. */
const keysPerScan = 500
/** How many locks are read in one batch. */
const locksPerBatch = 32
const mostPasses = 5
const pauseBetweenPasses = 200
