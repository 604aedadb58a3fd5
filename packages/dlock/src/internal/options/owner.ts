import { bytesOfUtf8, maxBytes } from "./keys.ts"

/**
 * A holder: its name, the metadata of its request, the trace in which it asked, and what it held when it asked. They are
 * stored as one string, the name and then the others, so that a store can keep it anywhere and a person can read it there.
 */
export interface Owner {
  readonly name: string
  readonly metadata: Readonly<Record<string, string>> | undefined
  /** The span of the request as a `traceparent` of the W3C, if the trace is sampled. */
  readonly traceparent: string | undefined
  /** The names of locks that the caller already held. */
  readonly holds: ReadonlyArray<string>
}

export const encode = (name: string, metadata: Readonly<Record<string, string>> | undefined): string =>
  metadata === undefined ? name : `${name} ${JSON.stringify(metadata)}`

/** Adds the span of the request. Call it before `withHeld`. */
export const withTrace = (holder: string, traceparent: string): string => `${holder}${behindName}${traceparent}`

/** A sampled span in the format of the W3C. `undefined` if a tracer has ids of its own kind. */
export const traceparentOf = (traceId: string, spanId: string): string | undefined => {
  const traceparent = `00-${traceId.padStart(32, "0")}-${spanId}-01`
  return isTraceparent(traceparent) ? traceparent : undefined
}

/** An id of zeros only names no span. */
const isTraceparent = (text: string): boolean =>
  /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/.test(text)

/** Adds what the caller already holds. Names that have no room are left out: a cut name would be another lock's. */
export const withHeld = (holder: string, names: ReadonlyArray<string>): string => {
  const all = JSON.stringify(names)
  // As in `problemOfName`, most texts need no counting.
  if (all.length * 3 <= maxBytes) return `${holder}${behindHolder}${all}`
  let room = maxBytes
  const some = names.filter((name) => {
    const bytes = bytesOfUtf8(JSON.stringify(name))
    const hasRoom = bytes <= room
    if (hasRoom) room -= bytes
    return hasRoom
  })
  return some.length === 0 ? holder : `${holder}${behindHolder}${JSON.stringify(some)}`
}

/** The same holder, without what differs between the claims of one process: the span of the request, and what it held. */
export const withoutHeld = (holder: string): string => {
  const tab = holder.indexOf("\t")
  return tab === -1 ? holder : holder.slice(0, tab)
}

/** How many of the locks that a caller holds are named at most. */
export const mostHeld = 8

// A tab is neither in a name nor in JSON.
const traceSays = "trace "
const holdsSays = "holds "
const behindName = `\t${traceSays}`
const behindHolder = `\t${holdsSays}`

/**
 * The inverse of `encode`, `withTrace` and `withHeld`. A name never contains a brace. A string that they did not make is
 * taken as a name, up to its first tab: a later version of this library may tell more behind it.
 */
export const decode = (holder: string): Owner => {
  const [named = "", ...parts] = holder.split("\t")
  const brace = named.indexOf(" {")
  const metadata = brace === -1 ? undefined : parse(named.slice(brace + 1), isRecordOfTexts)
  const said = (what: string): string | undefined => parts.find((part) => part.startsWith(what))?.slice(what.length)
  const trace = said(traceSays)
  const holds = said(holdsSays)
  return {
    name: metadata === undefined ? named : named.slice(0, brace),
    metadata,
    traceparent: trace !== undefined && isTraceparent(trace) ? trace : undefined,
    holds: (holds !== undefined && parse(holds, isListOfTexts)) || []
  }
}

const parse = <A>(json: string, isOne: (value: unknown) => value is A): A | undefined => {
  try {
    const value: unknown = JSON.parse(json)
    return isOne(value) ? value : undefined
  } catch {
    return undefined
  }
}

const areTexts = (values: ReadonlyArray<unknown>): boolean => values.every((value) => typeof value === "string")

const isListOfTexts = (value: unknown): value is ReadonlyArray<string> => Array.isArray(value) && areTexts(value)

const isRecordOfTexts = (value: unknown): value is Readonly<Record<string, string>> =>
  typeof value === "object" && value !== null && areTexts(Object.values(value))

interface Host {
  readonly pid?: number
  readonly getBuiltinModule?: (id: string) => { readonly hostname?: () => string } | undefined
}

/**
 * The host name and the process id, if the runtime knows them. It needs no import, because only one runtime has that
 * module.
 */
export const ofThisProcess = (): string => {
  const host = (globalThis as { readonly process?: Host }).process
  const name = host?.getBuiltinModule?.("node:os")?.hostname?.() ?? "localhost"
  return host?.pid === undefined ? name : `${name}:${host.pid}`
}
