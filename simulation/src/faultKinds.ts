/** What can go wrong with a request or its reply. */
export type MessageFault =
  | "request lost"
  | "reply lost"
  | "request late"
  | "reply late"
  | "executed twice"
  | "executed late"
  | "error before"
  | "error after"

/** What can go wrong with a notification: a message on an inbox, an event of a watch. */
export type NotificationFault = "notification lost" | "notification late" | "notification twice"

/** What replicas do while a grant waits for them. */
export type ReplicaFault = "replica late" | "replica silent"

/** A fault that happens at a planned moment. */
export type Incident =
  | "server paused"
  | "server restarted"
  | "data lost"
  | "key deleted"
  | "claim deleted"
  | "queue deleted"
  | "sum of permits evicted"
  | "permits evicted"
  | "early expiry"
  | "clock back"
  | "scripts forgotten"
  | "connections cut"
  | "cut off"
  | "listener silent"
  | "lease revoked"
  | "history compacted"
  | "epoch raised"
  | "foreign lock"
  | "client paused"
  | "client crashed"
  | "wall clock set"
  | "locker closed"
  | "credentials refused"
  | "member refuses"
  | "member silent"
  | "space exceeded"
  | "permission denied"
  | "interrupt"

export type Kind = MessageFault | NotificationFault | ReplicaFault | Incident

/** A planned fault. `only` selects faults by their names. */
export interface Fault {
  readonly name: string
  readonly kind: Kind
}

export const messageWeights: Readonly<Record<MessageFault, number>> = {
  "request lost": 3,
  "reply lost": 3,
  "request late": 4,
  "reply late": 4,
  "executed twice": 2,
  "executed late": 3,
  "error before": 2,
  "error after": 1
}

export const notificationWeights: Readonly<Record<NotificationFault, number>> = {
  "notification lost": 3,
  "notification late": 3,
  "notification twice": 2
}

export const replicaWeights: Readonly<Record<ReplicaFault, number>> = { "replica late": 1, "replica silent": 1 }

/** What a server may evict of a lock that several hold. */
export const evictionWeights = {
  "sum of permits evicted": 1,
  "permits evicted": 1
} as const satisfies Partial<Record<Incident, number>>

/** Refusals that last for a while: by one of the members, by the cluster, or by the user management. */
export const refusalWeights = {
  "member refuses": 6,
  "member silent": 2,
  "space exceeded": 2,
  "permission denied": 2
} as const satisfies Partial<
  Record<Incident, number>
>
