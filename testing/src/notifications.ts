/** A message that Redis publishes to a subscriber: three words, the first of them "message", in either protocol. */
const message = /[*>]3\r\n\$7\r\nmessage\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n[^\r]*\r\n/g

/** Splits a chunk of replies into messages to subscribers and the rest. A message that is cut in two by chunks is part of the rest. */
export const splitNotifications = (
  chunk: Buffer
): { readonly notifications: ReadonlyArray<Buffer>; readonly rest: Buffer } => {
  const text = chunk.toString("latin1")
  const notifications = Array.from(text.matchAll(message), ([one]) => Buffer.from(one, "latin1"))
  return notifications.length === 0
    ? { notifications, rest: chunk }
    : { notifications, rest: Buffer.from(text.replace(message, ""), "latin1") }
}
