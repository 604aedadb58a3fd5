// Many claims of one process on one semaphore, each of which wants one permit, holds it for a moment, and wants it again.
import { onMessage, report } from "dlock-testing/report"
import { Context, Duration, Effect, Layer, Scope } from "effect"
import { LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import type { Claim } from "effect-dlock/LockStore"
import { randomBytes } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"

const [url, count, capacity, bodyMs] = process.argv.slice(2) as [string, string, string, string]
const store = Context.get(
  await Effect.runPromise(Layer.buildWithScope(EtcdLockStore.layer({ hosts: url }), Scope.makeUnsafe())),
  LockStore
)
/** In milliseconds of a clock that all processes share. */
const now = (): number => Number(process.hrtime.bigint()) / 1_000_000
let grants: Array<number> = []
let releases: Array<number> = []

const claim = (): Claim => ({
  id: randomBytes(16).toString("base64url"),
  key: "dlock:hot",
  prefix: "dlock:",
  kind: "semaphore",
  permits: 1,
  capacity: Number(capacity),
  ttl: Duration.seconds(30),
  guardGap: Duration.seconds(3),
  holder: "a worker of the bench"
})

const run = async (): Promise<never> => {
  for (;;) {
    const mine = claim()
    const answer = await Effect.runPromise(store.request(mine, "queue"))
    if (answer._tag === "Queued") await Effect.runPromise(answer.granted)
    grants.push(now())
    await sleep(Number(bodyMs))
    releases.push(now())
    await Effect.runPromise(store.withdraw(mine))
  }
}

onMessage((message) => {
  if (message === "begin") { for (let index = 0; index < Number(count); index++) void run() }
  else {
    report({ nth: message, grants, releases })
    grants = []
    releases = []
  }
})

report({ ready: true })
