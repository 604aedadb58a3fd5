import type { Plan } from "./plan.ts"

/** For how many milliseconds the server keeps a claim at most. etcd counts in whole seconds, two at least. */
export const longestClaim = ({ backend, longestTtl }: Plan): number => {
  const kept = longestTtl + Math.max(100, longestTtl / 10)
  return backend === "redis" ? kept : Math.max(2_000, Math.ceil(kept / 1_000) * 1_000)
}
