/**
 * The handle of a lock that outlives its process: the token of the hold and the key. It names one hold for ever, so a late
 * `give` can meet no other. It is no secret: whoever may look at locks can read both.
 */
export interface Handle {
  readonly key: string
  readonly token: bigint
}

/** Letters, digits, `-` and `_`, which no shell changes. It begins with a digit, so it is never taken for a flag. */
export const encode = ({ key, token }: Handle): string => `${token}-${Buffer.from(key).toString("base64url")}`

export const decode = (text: string): Handle | undefined => {
  const [, token, encoded] = /^(\d+)-([\w-]+)$/.exec(text) ?? []
  if (token === undefined) return undefined
  const handle = { token: BigInt(token), key: Buffer.from(encoded!, "base64url").toString() }
  return encode(handle) === text ? handle : undefined
}
