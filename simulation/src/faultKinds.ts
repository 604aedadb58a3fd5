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

/** What can go wrong with a message that nobody asked for: a grant that is pushed, an event of a watch. */
export type NotificationFault = "notification lost" | "notification late" | "notification twice"

/** What replicas do where a grant waits for them. */
export type ReplicaFault = "replica late" | "replica silent"

/** What happens at a moment of its own. */
export type Incident =
  | "server paused"
  | "server restarted"
  | "data lost"
  | "key deleted"
  | "claim deleted"
  | "queue deleted"
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

/** A fault as it is planned. `only` knows it by its name. */
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

/** Who refuses what it is asked, for a while: one of the members, the cluster, or who looks after the users. */
export const refusalWeights = {
  "member refuses": 6,
  "member silent": 2,
  "space exceeded": 2,
  "permission denied": 2
} as const satisfies Partial<
  Record<Incident, number>
>
