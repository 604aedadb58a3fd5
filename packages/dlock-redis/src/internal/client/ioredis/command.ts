/** Creates ioredis commands from script calls. */

import type * as Library from "ioredis"
import { baseKeys } from "../../protocol/format.ts"
import type { LockKeys } from "../../protocol/keys.ts"
import type { Call } from "../../protocol/script.ts"

/**
 * Creates ioredis commands from script calls, already encoded in the Redis protocol. The client would encode each of
 * about twenty strings separately. Most of them are the keys of one lock, which are the same in all its calls, so their
 * encoding is cached.
 */
export const commands = (library: Pick<typeof Library, "Command">) => {
  class ScriptCommand extends library.Command {
    private readonly text: string

    constructor(name: "evalsha" | "eval", program: string, call: Call) {
      // These are the arguments that the client shows, for example in errors. `toWritable` returns what it sends.
      super(name, [program, "1", call.lock?.lock ?? call.moreKeys[0]!], utf8)
      this.text = textOf(name, program, call)
    }

    override toWritable(): string {
      return this.text
    }
  }
  return (name: "evalsha" | "eval", program: string, call: Call): Library.Command =>
    new ScriptCommand(name, program, call)
}

const utf8 = { replyEncoding: "utf8" } as const

const textOf = (name: string, program: string, { args, lock, moreKeys }: Call): string => {
  const ofLock = lock === undefined ? none : encodedKeys(lock)
  const keys = ofLock.count + moreKeys.length
  let text = `*${3 + keys + args.length}\r\n${headOf(name, program)}`
  text += moreKeys.length === 0 ? ofLock.counted : bulk(String(keys)) + ofLock.text
  for (const key of moreKeys) text += bulk(key)
  for (const arg of args) text += bulk(arg)
  return text
}

const bulk = (string: string): string => `$${Buffer.byteLength(string)}\r\n${string}\r\n`

/** The first bytes of every call of a script. Each script has two: one by digest, one by text. */
const heads = new Map<string, string>()

const headOf = (name: string, program: string): string => {
  let head = heads.get(program)
  if (head === undefined) {
    head = bulk(name) + bulk(program)
    heads.set(program, head)
  }
  return head
}

interface Encoded {
  readonly count: number
  readonly text: string
  /** The same text behind the number of keys, for a call that has no other keys. */
  readonly counted: string
}

const none: Encoded = { count: 0, text: "", counted: bulk("0") }

/** The encoded keys of recently used locks. */
const known = new Map<string, Encoded>()

const encodedKeys = (lock: LockKeys): Encoded => {
  let encoded = known.get(lock.lock)
  if (encoded === undefined) {
    if (known.size === mostKnown) known.clear()
    const all = baseKeys(lock)
    const text = all.map(bulk).join("")
    encoded = { count: all.length, text, counted: bulk(String(all.length)) + text }
    known.set(lock.lock, encoded)
  }
  return encoded
}

const mostKnown = 1_000
