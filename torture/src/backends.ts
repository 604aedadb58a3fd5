export const backends = {
  redis: "Redis, one server",
  sentinel: "Redis, primary and replica behind three sentinels",
  cluster: "Redis, cluster of three primaries and three replicas",
  etcd: "etcd, one member",
  etcd3: "etcd, three members"
} as const

export type Backend = keyof typeof backends
