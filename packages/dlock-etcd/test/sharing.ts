/** What the tests of shared claims have in common. */

import { assert } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, type Scope } from "effect"
import { type LockBackendError, LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import type { Answer, Claim, Granted, Queued } from "effect-dlock/LockStore"
import type { ConfigError } from "effect/Config"
import { open } from "../src/internal/client/connection.ts"
import type { Port } from "../src/internal/client/port.ts"
import { parse } from "../src/internal/options.ts"
import * as Stores from "../src/internal/store/store.ts"

export type Store = LockStore["Service"]

/** A store with its own connections. The server cannot distinguish it from another process. */
export const client = (hosts: string): Effect.Effect<Store, ConfigError | LockBackendError, Scope.Scope> =>
  Effect.map(Layer.build(Layer.fresh(EtcdLockStore.layer({ hosts }))), (context) => Context.get(context, LockStore))

/** A store over a port whose calls a test may change. */
export const clientOver = (hosts: string, meddle: (port: Port) => Port) =>
  Effect.gen(function*() {
    return yield* Stores.make(meddle(yield* open(yield* parse({ hosts }))))
  })

export const clients = (hosts: string, count: number) =>
  Effect.forEach(Array.from({ length: count }), () => client(hosts))

export const granted = (answer: Answer): Granted =>
  answer._tag === "Granted" ? answer : assert.fail(`the answer was ${answer._tag}`)

/** Holds a claim that finds the way free. */
export const hold = (store: Store, claim: Claim) => Effect.map(store.request(claim, "queue"), granted)

/** Lets a claim wait. */
export const wait = (store: Store, claim: Claim): Effect.Effect<Queued, LockBackendError> =>
  Effect.map(
    store.request(claim, "queue"),
    (answer) => answer._tag === "Queued" ? answer : assert.fail(`the answer was ${answer._tag}`)
  )

/** Lets a claim wait for its grant, which must come within so many milliseconds. */
export const grant = (queued: Queued, millis: number) => Effect.map(Effect.timeout(queued.granted, millis), granted)

/** The waiting claim is not granted for a moment. */
export const staysOut = (queued: Queued, millis = 150) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkScoped(queued.granted, { startImmediately: true })
    yield* Effect.sleep(millis)
    assert.isUndefined(fiber.pollUnsafe())
    yield* Fiber.interrupt(fiber)
  })

/** What a server has received and sent so far. */
export interface Traffic {
  readonly transactions: number
  readonly calls: number
  readonly bytes: number
  readonly watches: number
}

export const traffic = (url: string): Effect.Effect<Traffic> =>
  Effect.promise(async () => {
    const metrics = await (await fetch(`${url}/metrics`)).text()
    const read = (name: RegExp): number => Number(name.exec(metrics)?.[1] ?? 0)
    const received = metrics.matchAll(/^grpc_server_msg_received_total\{grpc_method="(\w+)".*\} (\S+)$/gm)
    const calls = Array.from(received).filter(([, method]) => !/KeepAlive|TimeToLive/.test(method!))
    return {
      transactions: read(/^grpc_server_msg_received_total\{grpc_method="Txn".*\} (\S+)$/m),
      calls: calls.reduce((sum, [, , count]) => sum + Number(count), 0),
      bytes: read(/^etcd_network_client_grpc_sent_bytes_total (\S+)$/m),
      watches: read(/^etcd_debugging_mvcc_watcher_total (\S+)$/m)
    }
  })
