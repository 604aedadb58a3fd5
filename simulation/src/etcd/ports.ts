import * as Effect from "effect/Effect"
import type { IResponseOp, ITxnRequest, ITxnResponse, IWatchRequest, IWatchResponse } from "etcd3"
import type { Port } from "../../../packages/dlock-etcd/src/internal/port.ts"

/** A watch as it was asked for. */
interface Watch {
  readonly key: Buffer
  /** It is for who waits for that key to go; the others look after what is held. */
  readonly isOfWaiter: boolean
}

type Event = IWatchResponse["events"][number]

/**
 * A port whose watches go by their names alone: of whatever they are told they take it that it befell the key which they
 * were asked for. So did the store before it looked at the keys of events, and a proxy mixes those names up.
 */
const byName = (port: Port, isMisled: (watch: Watch) => boolean, onDeleted: (event: Event) => void): Port => ({
  ...port,
  watch: ({ onEnd, onResponse }) => {
    const unnamed: Array<Watch> = []
    const named = new Map<string, Watch>()
    const mislead = (response: IWatchResponse): IWatchResponse => {
      if (response.created) {
        const watch = unnamed.shift()
        if (watch !== undefined && !response.canceled) named.set(response.watch_id, watch)
      }
      const watch = named.get(response.watch_id)
      if (watch === undefined || !isMisled(watch)) return response
      const events = response.events.map((event) => ({ ...event, kv: { ...event.kv, key: watch.key } }))
      return { ...response, events }
    }
    const listeners = {
      onEnd,
      onResponse: (response: IWatchResponse) => {
        const believed = mislead(response)
        believed.events.forEach(onDeleted)
        onResponse(believed)
      }
    }
    return Effect.map(port.watch(listeners), (stream) => ({
      ...stream,
      send: (request: IWatchRequest) => {
        const { key, range_end, start_revision } = (request.create_request ?? {}) as Partial<Record<string, Buffer>>
        // Who watches a whole folder can tell its keys apart by nothing but the events.
        if (key !== undefined) {
          unnamed.push({ key, isOfWaiter: start_revision === undefined && range_end === undefined })
        }
        stream.send(request)
      }
    }))
  }
})

/** Who holds a lock takes another's end for its own. */
export const believesNames = (port: Port): Port => byName(port, ({ isOfWaiter }) => !isOfWaiter, () => {})

/**
 * Who waits takes another's end for that of whom it waits for, and goes by that without a look: what it has been told of
 * is not there any more, whatever a look says.
 */
export const believesEvents = (port: Port): Port => {
  /** By key, the revision at which it was deleted. */
  const deleted = new Map<string, bigint>()
  const told = byName(port, ({ isOfWaiter }) => isOfWaiter, ({ kv }) => {
    deleted.set(kv.key.toString(), BigInt(kv.mod_revision))
  })
  const stands = ({ create_revision, key }: { readonly create_revision: string; readonly key: Buffer }) =>
    BigInt(create_revision) > (deleted.get(key.toString()) ?? 0n)
  const withoutDeleted = (response: ITxnResponse): ITxnResponse => ({
    ...response,
    responses: response.responses.map((one: IResponseOp) =>
      one.response_range
        ? { ...one, response_range: { ...one.response_range, kvs: one.response_range.kvs.filter(stands) } }
        : one
    )
  })
  const isLook = ({ failure = [], success = [] }: ITxnRequest) =>
    failure.length === 0 && success.length > 0 && success.every(({ request_range }) => request_range !== undefined)
  return {
    ...told,
    txn: (request, limit, onUnsent) =>
      Effect.map(
        port.txn(request, limit, onUnsent),
        (reply) => isLook(request) ? { ...reply, value: withoutDeleted(reply.value) } : reply
      )
  }
}

/** What is refused is taken for what brought no answer: it may have been done. */
export const doubtsRefusals = (port: Port): Port => ({
  ...port,
  txn: (request, limit, onUnsent) =>
    Effect.mapError(port.txn(request, limit, onUnsent), (failure) => ({ ...failure, notDone: false }))
})
