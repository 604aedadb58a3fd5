import { createHash } from "node:crypto"

/**
 * A hold that outlives its process. On one server the token names one hold of the key for ever, so a late `give` can meet no
 * other. Another server may give the same token: there the holder tells the two apart.
 */
export interface Hold {
  readonly key: string
  readonly token: bigint
  readonly holder: string
}

/** What a handle says: the key, the token, and a mark of the whole. It is no secret: whoever may look at locks can make it. */
export interface Handle {
  readonly key: string
  readonly token: bigint
  readonly mark: string
}

const markOf = ({ holder, key, token }: Hold): string =>
  createHash("sha256").update(JSON.stringify([key, String(token), holder])).digest("hex").slice(0, 8)

/** Letters, digits, `-` and `_`, which no shell changes. It begins with a digit, so it is never taken for a flag. */
export const encode = (hold: Hold): string => encoded({ ...hold, mark: markOf(hold) })

const encoded = ({ key, mark, token }: Handle): string => `${token}-${mark}-${Buffer.from(key).toString("base64url")}`

export const decode = (text: string): Handle | undefined => {
  const [, token, mark, key] = /^(\d{1,39})-([0-9a-f]{8})-([\w-]+)$/.exec(text) ?? []
  if (token === undefined) return undefined
  const handle = { token: BigInt(token), mark: mark!, key: Buffer.from(key!, "base64url").toString() }
  return encoded(handle) === text ? handle : undefined
}

/** Whether a handle was made for a hold. */
export const isOf = (handle: Handle, hold: Hold): boolean => handle.mark === markOf(hold)
