/**
 * A holder in words: a name, and the metadata of its request as JSON behind it. One string, so that a store can keep
 * it anywhere and a person can read it there.
 */
export interface Owner {
  readonly name: string
  readonly metadata: Readonly<Record<string, string>> | undefined
}

export const encode = (name: string, metadata: Readonly<Record<string, string>> | undefined): string =>
  metadata === undefined ? name : `${name} ${JSON.stringify(metadata)}`

/** The inverse of `encode`; a name never contains a brace. What others wrote is taken as a name. */
export const decode = (holder: string): Owner => {
  const brace = holder.indexOf(" {")
  if (brace === -1) return { name: holder, metadata: undefined }
  try {
    const metadata = JSON.parse(holder.slice(brace + 1))
    if (Object.values(metadata).every((value) => typeof value === "string")) {
      return { name: holder.slice(0, brace), metadata }
    }
  } catch {
    // Not of our making.
  }
  return { name: holder, metadata: undefined }
}

interface Host {
  readonly pid?: number
  readonly getBuiltinModule?: (id: string) => { readonly hostname?: () => string } | undefined
}

/** Host and process where the runtime tells them, without an import that only one runtime has. */
export const ofThisProcess = (): string => {
  const host = (globalThis as { readonly process?: Host }).process
  const name = host?.getBuiltinModule?.("node:os")?.hostname?.() ?? "localhost"
  return host?.pid === undefined ? name : `${name}:${host.pid}`
}
