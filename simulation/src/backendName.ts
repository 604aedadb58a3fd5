export type BackendName = "redis" | "etcd"
