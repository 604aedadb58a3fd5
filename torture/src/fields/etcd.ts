import { enableAuth, etcdctl, jwtTokens, type Server, startEtcdCluster } from "dlock-testing"
import { Etcd3 } from "etcd3"
import { setTimeout as sleep } from "node:timers/promises"
import { aLittle, eventually, type Field, type ServerFault } from "./field.ts"

/** Seconds for which a token is good, where the servers ask who one is. */
const tokenLife = 10

/**
 * etcd of one member or three. What they acknowledged is on disk, so a restart forgets nothing. Three ask who one is: their
 * tokens run out all the time, and are over with each change of users.
 */
export const startField = async (count: number): Promise<Field> => {
  const ttl = 1_000
  const isGuarded = count > 1
  const { servers, stop } = await startEtcdCluster(count, isGuarded ? jwtTokens(tokenLife) : [])
  if (isGuarded) await enableAuth(servers[0]!.url)
  const connect = () =>
    new Etcd3({
      hosts: servers.map(({ url }) => url),
      ...(isGuarded && { auth: { username: "root", password: "toor" } }),
      defaultCallOptions: () => ({ deadline: Date.now() + 2_000 })
    })
  let admin = connect()
  let users = 0
  const isLeader = async ({ url }: Server) =>
    /^etcd_server_is_leader 1$/m.test(
      await (await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(500) })).text()
    )
  const leader = async (): Promise<Server> => {
    for (const one of servers) if (await isLeader(one).catch(() => false)) return one
    return servers[0]!
  }
  const healthy = async ({ url }: Server) => {
    const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(1_000) })
    return (await response.json() as { readonly health: string }).health === "true"
  }
  const inStep = async () => (await Promise.all(servers.map(healthy))).every((ok) => ok)
  const holderOf = async (key: string) => {
    const found = await admin.getAll().prefix(`dlock:${key}/`).sort("Create", "Ascend").limit(1).exec()
    return found.kvs[0]
  }
  const freeze = (
    which: (random: { readonly pick: <A>(all: ReadonlyArray<A>) => A }) => Promise<Server>
  ): ServerFault => ({
    weight: 3,
    forgets: false,
    act: async (_, random) => {
      const one = await which(random)
      one.signal("SIGSTOP")
      await sleep(aLittle(1_900, random))
      one.signal("SIGCONT")
    }
  })
  const restart = (which: () => Promise<Server>): ServerFault => ({
    weight: 3,
    forgets: false,
    act: async (_, random) => {
      await (await which()).restart(random.between(0, 1_500))
      await eventually(inStep, 10_000)
    }
  })

  const changeUsers: ServerFault = {
    weight: 3,
    forgets: false,
    act: async () => {
      await etcdctl((await leader()).url, "--user=root:toor", "user", "add", `user-${users++}:any`)
      // The client would go on with its old token until that runs out.
      admin.close()
      admin = connect()
    }
  }

  return {
    ttl,
    ports: servers.map(({ port }) => port),
    through: (ports) => ({
      kind: "etcd",
      hosts: ports.map((port) => `http://127.0.0.1:${port}`),
      ...(isGuarded && { username: "app", password: "right" })
    }),
    faults: count === 1
      ? { "freeze the server": freeze(leader), "restart the server": restart(leader) }
      : {
        "freeze the leader": freeze(leader),
        "freeze a member": freeze(async (random) => random.pick(servers)),
        "kill the leader": restart(leader),
        "change the users": changeUsers
      },
    strikes: {
      "delete the key": {
        weight: 14,
        act: async (key, about) => {
          const holder = await holderOf(key)
          about([key])
          if (holder !== undefined) await admin.delete().key(holder.key)
        }
      },
      "revoke the lease": {
        weight: 8,
        act: async (key, about) => {
          const holder = await holderOf(key)
          if (holder === undefined || holder.lease === "0") return
          const { keys } = await admin.leaseClient.leaseTimeToLive({ ID: holder.lease, keys: true })
          // A claim that joins the lease between the question and its end is one on the same key or is heard of by nobody.
          about(keys.map((one) => String(one).replace(/^dlock:/, "").replace(/\/[^/]*$/, "")))
          await admin.leaseClient.leaseRevoke({ ID: holder.lease })
        }
      },
      "compact the history": {
        weight: 1,
        act: async (_, about) => {
          const { header } = await admin.kv.range({ key: Buffer.from("x") })
          about([])
          await admin.kv.compact({ revision: header.revision })
        }
      }
    },
    whole: async () => {
      for (const { signal } of servers) signal("SIGCONT")
      await eventually(inStep, 20_000)
    },
    orphans: async () => {
      const keys = (await admin.getAll().keys()).filter((key) => !key.includes("\0"))
      const { leases } = await admin.leaseClient.leaseLeases()
      const states = await Promise.all(leases.map(({ ID }) => admin.leaseClient.leaseTimeToLive({ ID, keys: true })))
      // A lease of marks ends by itself: the one with the long time, whose first mark may never have come.
      const live = states.filter(({ grantedTTL, keys }) =>
        keys.length === 0 ? Number(grantedTTL) < 600 : !keys.every((key) => String(key).includes("\0"))
      )
      return [
        ...keys,
        ...live.map(({ ID, TTL, grantedTTL, keys }) => `lease ${ID}, ${TTL} of ${grantedTTL} s, ${keys.length} keys`)
      ]
    },
    skipped: [],
    stop: async () => {
      admin.close()
      await stop()
    }
  }
}
