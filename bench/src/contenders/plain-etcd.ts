import { Etcd3 } from "etcd3"
import { type Lock, poll, promised } from "./contender.ts"

/** The floor: put-if-absent under one lease of the process, and compare-and-delete. */
export const open = async (url: string, ttl: number): Promise<Lock> => {
  const etcd = new Etcd3({ hosts: url })
  const lease = etcd.lease(Math.ceil(ttl / 1_000))
  const leaseId = await lease.grant()
  return promised(async (key, body) => {
    const token = crypto.randomUUID()
    const put = etcd.put(key).value(token).lease(leaseId)
    await poll(async () => (await etcd.if(key, "Create", "==", 0).then(put).commit()).succeeded)
    try {
      await body()
    } finally {
      await etcd.if(key, "Value", "==", token).then(etcd.delete().key(key)).commit()
    }
  }, async () => {
    await lease.revoke()
    etcd.close()
  })
}
