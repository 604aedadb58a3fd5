/** The members of a transport's stream that this library uses. */
export interface Duplex {
  readonly on:
    & ((event: "data", listener: (response: any) => void) => unknown)
    & ((event: "error", listener: (error: unknown) => void) => unknown)
    & ((event: "end", listener: () => void) => unknown)
  readonly write: (request: object) => void
  readonly end: () => void
  readonly cancel: () => void
}
