import type { Make } from "./subject.ts"

/** Variants of ours that are known to be bad, and what is bad about each. */
export const variants = {
  "no-deadline": "considers its lock held until the backend says otherwise",
  "deadline-from-reply": "counts the time to live from the reply",
  "twice-the-ttl": "considers its lock held for twice the `ttl`",
  "unconditional-delete": "releases without comparing",
  "renewal-creates": "a renewal sets the key again where it is missing",
  "constant-token": "gives everybody the same token",
  "notification-dropped": "drops what tells a waiter of its grant",
  "no-clean-up": "leaves its claim in the queue when it is interrupted",
  "permits-asked-as-one": "asks for one permit, however many are used",
  "larger-capacity-asked": "asks for the larger capacity while both are in use",
  "downgrade-gives-up-the-claim": "gives its claim back when it lets readers in",
  "revocation-unheard": "tells no holder that it is to leave before its grace is over",
  "revoked-claim-believed": "takes a claim that is never extended again for one that was extended",
  "revoked-claim-given-up": "gives a revoked claim back before its program has ended",
  "leader-released-early": "releases a leadership before its program has ended",
  "never-reconnects": "asks no more once its connection has failed",
  "default-client": "SET NX over a client with default options"
} as const

/** Lock libraries that others use. */
export const peers = {
  "redis-semaphore": "redis-semaphore 5.8.0, Mutex",
  redlock: "@sesamecare-oss/redlock 1.4.0, using",
  "effect-distributed-lock": "effect-distributed-lock 0.0.11, withPermits"
} as const

export const subjects: ReadonlyArray<string> = ["ours", ...Object.keys(variants), ...Object.keys(peers)]

/** Whether a subject has semaphores and read-write locks too. */
export const hasShared = (subject: string): boolean =>
  subject === "ours" || (subject in variants && subject !== "default-client")

/** Loads a subject: a worker has no more than one in it. */
export const makeOf = async (name: string): Promise<Make> => {
  if (name === "ours") return (await import("./ours.ts")).ours
  if (name === "default-client") return (await import("./plain.ts")).defaultClient
  if (name in variants) return (await import("./variants.ts")).tampered(name as keyof typeof variants)
  if (name in peers) return (await import("./promised.ts")).peer(name as keyof typeof peers)
  throw new Error(`no subject is called ${name}`)
}
