/**
 * A holder: its name, and the metadata of its request. They are stored as one string, the name and then the metadata as
 * JSON, so that a store can keep it anywhere and a person can read it there.
 */
export interface Owner {
  readonly name: string
  readonly metadata: Readonly<Record<string, string>> | undefined
}

export const encode = (name: string, metadata: Readonly<Record<string, string>> | undefined): string =>
  metadata === undefined ? name : `${name} ${JSON.stringify(metadata)}`

/** The inverse of `encode`. A name never contains a brace. A string that `encode` did not make is taken as a name. */
export const decode = (holder: string): Owner => {
  const brace = holder.indexOf(" {")
  if (brace === -1) return { name: holder, metadata: undefined }
  try {
    const metadata = JSON.parse(holder.slice(brace + 1))
    if (Object.values(metadata).every((value) => typeof value === "string")) {
      return { name: holder.slice(0, brace), metadata }
    }
  } catch {
    // `encode` did not make this string.
  }
  return { name: holder, metadata: undefined }
}

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
