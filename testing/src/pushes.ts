/** A message that Redis publishes to a subscriber: three words, the first of them "message", in either protocol. */
const push = /[*>]3\r\n\$7\r\nmessage\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n[^\r]*\r\n/g

/** What of a chunk of replies is pushed, and the rest of it. A message that is cut in two by chunks is part of the rest. */
export const pushesOf = (chunk: Buffer): { readonly pushes: ReadonlyArray<Buffer>; readonly rest: Buffer } => {
  const text = chunk.toString("latin1")
  const pushes = Array.from(text.matchAll(push), ([one]) => Buffer.from(one, "latin1"))
  return pushes.length === 0 ? { pushes, rest: chunk } : { pushes, rest: Buffer.from(text.replace(push, ""), "latin1") }
}
