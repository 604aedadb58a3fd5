import { assert, describe, it } from "@effect/vitest"
import type { RevocationNotice } from "effect-dlock/LockStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ITxnRequest } from "etcd3"
import { lockKeys, marksOn } from "../../src/internal/protocol/keys.ts"
import { Revocations } from "../../src/internal/store/admin/revocations.ts"

const claimKey = "dlock:k/one"
const markOf = (grace: number) => `${marksOn(lockKeys("dlock:k", "dlock:"), { claimKey, created: 4n })}${grace}`

/** The notices of a holder whose process finds these marks on a lease, by what they say. */
const noticesOf = Effect.fnUntraced(function*(graces: ReadonlyArray<number>) {
  const notices: Array<RevocationNotice> = []
  const tracked = { claim: { id: "mine" }, state: "held" }
  const place = Object.assign(tracked, { place: { created: 4n, tracked, revocation: undefined } }).place
  const read = ({ success = [] }: ITxnRequest) => ({
    responses: success.map(({ request_range }) => {
      const by = `${/\d+$/.exec(String(request_range?.key))?.[0]} ms`
      return { response_range: { count: "1", kvs: [{ value: Buffer.from(JSON.stringify({ layout: 1, by })) }] } }
    })
  })
  const parts = {
    port: { txn: (request: ITxnRequest) => Effect.succeed({ value: read(request) }) },
    now: () => 0,
    fork: () => {},
    registry: { at: (key: string) => key === claimKey ? place : undefined },
    tell: (notice: RevocationNotice) => notices.push(notice)
  }
  const revocations = new Revocations(parts as never)
  yield* revocations.takeInBeat(graces.map(markOf))
  return notices.map(({ revocation: { by, grace } }) => [by, Duration.toMillis(grace)] as const)
})

describe("marks that a beat finds together", () => {
  // Found by the simulation: the holder was told first that nobody had asked.
  it.effect.each([
    { graces: [500] },
    { graces: [500, 9_000] },
    { graces: [9_000, 500] },
    { graces: [9_000, 500, 700] }
  ])(
    "are told once, in the name of who leaves the least time: $graces",
    ({ graces }) => Effect.map(noticesOf(graces), (notices) => assert.deepStrictEqual(notices, [["500 ms", 500]]))
  )
})
