import * as Effect from "effect/Effect"
import type { IResponseOp, ITxnResponse, IWatchRequest, IWatchResponse } from "etcd3"
import type { Port } from "../../../packages/dlock-etcd/src/internal/client/port.ts"

/** A watch as it was requested. */
interface Watch {
  readonly key: Buffer
  /** Whether it is a waiter's, which waits for the deletion of that key; others guard held locks. */
  readonly isOfWaiter: boolean
}

type Event = IWatchResponse["events"][number]

/**
 * A port that trusts the numbers of watches: each event counts for the key that its watch was requested for. The store
 * did so before it compared the keys of events, and a proxy mixes those numbers up.
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
        // A watch on a whole queue can tell its keys apart only by the events.
        if (key !== undefined) {
          unnamed.push({ key, isOfWaiter: start_revision === undefined && range_end === undefined })
        }
        stream.send(request)
      }
    }))
  }
})

/** A holder takes the deletion of another claim for its own. */
export const trustsWatchNames = (port: Port): Port => byName(port, ({ isOfWaiter }) => !isOfWaiter, () => {})

/** A waiter takes any event of its watch for the end of the first claim, and acts on that without a check. */
export const trustsEvents = (port: Port): Port => {
  /** By queue, the claim that was first when last seen. */
  const firsts = new Map<string, Buffer>()
  const see = (response: ITxnResponse): void => {
    for (const one of response.responses as ReadonlyArray<IResponseOp & { readonly response_txn?: ITxnResponse }>) {
      if (one.response_txn !== undefined) see(one.response_txn)
      const claims = one.response_range?.kvs.filter(({ key }) => key.includes("/")) ?? []
      const [first] = claims.toSorted((a, b) => Number(a.create_revision) - Number(b.create_revision))
      if (first !== undefined) firsts.set(folderOf(first.key.toString()), first.key)
    }
  }
  return {
    ...port,
    txn: (request, limit, onUnsent) =>
      Effect.tap(port.txn(request, limit, onUnsent), ({ value }) => Effect.sync(() => see(value))),
    watch: ({ onEnd, onResponse }) => {
      const folders = new Set<string>()
      const mislead = ({ kv, ...event }: Event): Event => {
        const folder = Array.from(folders).find((one) => kv.key.toString().startsWith(one)) ??
          folders.values().next().value
        return { ...event, kv: { ...kv, key: firsts.get(folder ?? "") ?? kv.key } }
      }
      const listeners = {
        onEnd,
        onResponse: (response: IWatchResponse) => onResponse({ ...response, events: response.events.map(mislead) })
      }
      return Effect.map(port.watch(listeners), (stream) => ({
        ...stream,
        send: (request: IWatchRequest) => {
          const { key, range_end } = (request.create_request ?? {}) as Partial<Record<string, Buffer>>
          if (range_end !== undefined && key?.includes("/") === true) folders.add(String(key))
          stream.send(request)
        }
      }))
    }
  }
}

/** A queue's part of a claim's key. */
const folderOf = (key: string): string => key.slice(0, key.lastIndexOf("/") + 1)

/** A refusal is taken for a missing answer: the request may have been executed. */
export const doubtsRefusals = (port: Port): Port => ({
  ...port,
  txn: (request, limit, onUnsent) =>
    Effect.mapError(port.txn(request, limit, onUnsent), (failure) => ({ ...failure, notDone: false }))
})
