/** The keys of one lock. */
export interface Names {
  /** All claims stand in this folder, in the order of their create revisions: etcd's own queue of a mutex. */
  readonly folder: Buffer
  /** The end of the folder's range. */
  readonly folderEnd: Buffer
  readonly entry: (id: string) => Buffer
  /** The mark that a claim is cancelled. NUL, which no key holds, keeps it out of every folder. */
  readonly mark: (id: string) => Buffer
}

/**
 * `%` and `/` of a key are encoded, so that no lock's folder holds another's claims: `etcdctl lock a` would wait for the
 * claims of `a/b` otherwise. The prefix stays as it is.
 */
export const names = (name: string, prefix: string): Names => {
  const path = prefix + name.slice(prefix.length).replaceAll("%", "%25").replaceAll("/", "%2F")
  return {
    folder: Buffer.from(`${path}/`),
    folderEnd: Buffer.from(`${path}0`),
    entry: (id) => Buffer.from(`${path}/${id}`),
    mark: (id) => Buffer.from(`${path}\0${id}`)
  }
}

/** Where the token epoch of all locks under a prefix stands. NUL keeps it out of every folder, as it does marks. */
export const epochOf = (prefix: string): Buffer => Buffer.from(`${prefix}\0epoch`)

/** The keys of the processes that live and wait for locks under a prefix. NUL keeps them out of every folder, as it does marks. */
export const lives = (prefix: string) => {
  const folder = `${prefix}\0alive\0`
  return {
    first: Buffer.from(folder),
    end: Buffer.from(`${prefix}\0alive\x01`),
    of: (process: string): Buffer => Buffer.from(folder + process),
    processIn: (key: string): string => key.slice(folder.length)
  }
}
