import type * as Library from "ioredis"
import type { Names } from "./names.ts"
import { type Call, lockKeys } from "./scripts/script.ts"

/**
 * Makes the client's commands for script calls, which bring their own text along. The client would put that together out
 * of two dozen strings and look at each of them three times; seven are the keys of one lock, the same in all of its calls.
 */
export const commands = (library: Pick<typeof Library, "Command">) => {
  class ScriptCommand extends library.Command {
    private readonly text: string

    constructor(name: "evalsha" | "eval", program: string, call: Call) {
      // What the client looks at: on a cluster the first key says where to go.
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
  const keys = moreKeys.length + (lock === undefined ? 0 : keysOfLock)
  let text = `*${3 + keys + args.length}\r\n${bulk(name)}${bulk(program)}${bulk(String(keys))}`
  if (lock !== undefined) text += textOfKeys(lock)
  for (const key of moreKeys) text += bulk(key)
  for (const arg of args) text += bulk(arg)
  return text
}

const bulk = (string: string): string => `$${Buffer.byteLength(string)}\r\n${string}\r\n`

const keysOfLock = 7

/** Of the locks that were in use lately. */
const texts = new Map<string, string>()

const textOfKeys = (names: Names): string => {
  let text = texts.get(names.lock)
  if (text === undefined) {
    if (texts.size === mostTexts) texts.clear()
    text = lockKeys(names).map(bulk).join("")
    texts.set(names.lock, text)
  }
  return text
}

const mostTexts = 1_000
