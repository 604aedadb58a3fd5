import {
  addLearner,
  enableAuth,
  etcdctl,
  jwtTokens,
  type MemberProxy,
  type Server,
  simpleTokens,
  startEtcdCluster,
  startGrpcProxy,
  startMemberProxy
} from "dlock-testing"
import { Etcd3 } from "etcd3"
import * as Fs from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import type { With } from "../dimensions.ts"
import { isBehindProxy, longDoomed } from "../roles.ts"
import { aLittle, type Environment, eventually, type ServerFault } from "./environment.ts"

/** Seconds for which a token is good: one that is kept by its use, and a signed one, which is not. */
const tokenLife = { simple: 3, signed: 10 }

/**
 * Milliseconds for which a lock whose holder has gone may stand when the leases have been counted from their beginning
 * again, which a new leader does.
 */
const recounted = longDoomed + 3_000

/**
 * Milliseconds that those ask for. The proxy asks for leases to go on by a loop of its own, twice a second, and a client
 * tries twice within a third of the time: below three seconds it loses healthy locks now and then.
 */
const ttlBehindProxy = 4_000

/** A cluster, and all by which its clients may come to it. */
interface Servers {
  readonly members: ReadonlyArray<Server>
  /** Before one of the members: it answers in its place, where it is to refuse. */
  readonly refuser: MemberProxy | undefined
  readonly learner: Server | undefined
  readonly proxy: Server | undefined
  /** Whether they ask who one is. */
  readonly isGuarded: boolean
  readonly stop: () => Promise<void>
}

const start = async (count: number, dimensions: With): Promise<Servers> => {
  const isGuarded = dimensions.has("tokens") || dimensions.has("permissions")
  const tokens = !isGuarded
    ? []
    : !dimensions.has("tokens")
    ? simpleTokens(300)
    : count === 1
    ? simpleTokens(tokenLife.simple)
    : jwtTokens(tokenLife.signed)
  const args = [...tokens, "--strict-reconfig-check=false"]
  const { servers: members, stop } = await startEtcdCluster(count, args)
  const started: Array<{ readonly stop: () => Promise<void> }> = [{ stop }]
  const keep = <A extends { readonly stop: () => Promise<void> }>(one: A): A => {
    started.push(one)
    return one
  }
  const stopAll = async () => {
    await Promise.all(started.map((one) => one.stop()))
  }
  try {
    const learner = dimensions.has("learners") ? keep(await addLearner({ servers: members }, args)) : undefined
    if (isGuarded) await enableAuth(members[0]!.url)
    return {
      members,
      learner,
      refuser: dimensions.has("refusals") ? keep(await startMemberProxy(members.at(-1)!.port)) : undefined,
      proxy: dimensions.has("proxies") ? keep(await startGrpcProxy(members.map(({ url }) => url))) : undefined,
      isGuarded,
      stop: stopAll
    }
  } catch (error) {
    await stopAll()
    throw error
  }
}

/**
 * Milliseconds for which these were ready to run without a processor, so far: of each, in each stretch between two looks,
 * the thread that waited longest, since a request passes from one to the next.
 */
const watchWaits = (servers: ReadonlyArray<Server>): () => number => {
  const before = new Map<string, number>()
  let sum = 0
  return () => {
    for (const { pid } of servers) {
      let longest = 0
      try {
        for (const thread of Fs.readdirSync(`/proc/${pid}/task`)) {
          const file = `/proc/${pid}/task/${thread}/schedstat`
          const waited = Number(Fs.readFileSync(file, "utf8").split(" ")[1]) / 1e6
          longest = Math.max(longest, waited - (before.get(file) ?? waited))
          before.set(file, waited)
        }
      } catch {
        // It is away, or a thread of it is.
      }
      sum += longest
    }
    return sum
  }
}

/** What goes to a member's address where one of them may refuse; of one member there is a way around it too. */
const portsOf = ({ members, refuser }: Servers): ReadonlyArray<number> => {
  const ports = members.map(({ port }) => port)
  if (refuser === undefined) return ports
  return ports.length === 1 ? [refuser.port, ...ports] : [...ports.slice(0, -1), refuser.port]
}

/**
 * etcd of one member or three. What they acknowledged is on disk, so a restart forgets nothing.
 */
export const startEnvironment = async (count: number, dimensions: With): Promise<Environment> => {
  const ttl = 1_000
  const all = await start(count, dimensions)
  const { isGuarded, learner, members: servers, proxy, refuser, stop } = all
  const hosts = [...portsOf(all), ...(learner === undefined ? [] : [learner.port])]
  const root = isGuarded ? ["--user=root:toor"] : []
  const urls = servers.map(({ url }) => url).join(",")
  const connect = () =>
    new Etcd3({
      hosts: servers.map(({ url }) => url),
      ...(isGuarded && { auth: { username: "root", password: "toor" } }),
      defaultCallOptions: () => ({ deadline: Date.now() + 2_000 })
    })
  let admin = connect()
  /** A client that has failed is not asked again: it would go on with a token that is over, or refuse for seconds. */
  const asAdmin = async <A>(use: (admin: Etcd3) => Promise<A>): Promise<A> => {
    const mine = admin
    try {
      return await use(mine)
    } catch (error) {
      if (admin === mine) {
        mine.close()
        admin = connect()
      }
      if (!/auth/.test(String(error))) throw error
      return await use(admin)
    }
  }
  let users = 0
  const isLeader = async ({ url }: Server): Promise<boolean> =>
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
    const found = await asAdmin((admin) =>
      admin.getAll().prefix(`dlock:${key}/`).sort("Create", "Ascend").limit(1).exec()
    )
    return found.kvs[0]
  }
  const freeze = (
    which: (random: { readonly pick: <A>(all: ReadonlyArray<A>) => A }) => Promise<Server>
  ): ServerFault => ({
    weight: 3,
    forgets: false,
    limbo: recounted,
    inject: async (_, random) => {
      const one = await which(random)
      one.signal("SIGSTOP")
      await sleep(aLittle(1_900, random))
      one.signal("SIGCONT")
    }
  })
  const restart = (which: () => Promise<Server>): ServerFault => ({
    weight: 3,
    forgets: false,
    limbo: recounted,
    inject: async (_, random) => {
      await (await which()).restart(random.between(0, 1_500))
      await eventually(inStep, 10_000)
    }
  })
  const changeUsers: ServerFault = {
    weight: 3,
    forgets: false,
    harmless: true,
    limbo: 0,
    inject: async () => {
      await etcdctl(urls, ...root, "user", "add", `user-${users++}:any`)
    }
  }
  const refuse = (one: MemberProxy, code: number, message: string): ServerFault => ({
    weight: 3,
    forgets: false,
    harmless: true,
    limbo: 0,
    inject: async (_, random) => {
      one.refuse({ code, message })
      await sleep(random.between(200, 4_000))
      one.heal()
    }
  })
  const restartProxy = (one: Server): ServerFault => ({
    weight: 4,
    forgets: false,
    hits: isBehindProxy,
    inject: (_, random) => one.restart(random.between(0, 1_500))
  })
  /** Raised by hand. It does what it does of a server that is full, and to fill one takes gigabytes of memory. */
  const alarm = async (action: "Activate" | "Deactivate") => {
    await asAdmin(async ({ cluster, maintenance }) => {
      const { members } = await cluster.memberList({})
      const voters = members.filter(({ isLearner }) => !isLearner)
      for (const { ID } of action === "Activate" ? voters.slice(0, 1) : voters) {
        await maintenance.alarm({ action, memberID: ID, alarm: "Nospace" })
      }
    })
  }
  const outOfSpace: ServerFault = {
    weight: 1,
    forgets: false,
    limbo: recounted,
    inject: async (_, random) => {
      try {
        await alarm("Activate")
        await sleep(random.between(200, 4_000))
      } finally {
        await eventually(() => alarm("Deactivate").then(() => true), 10_000)
      }
    }
  }
  const permission = (...args: ReadonlyArray<string>) =>
    etcdctl(urls, ...root, "role", args[0]!, "locks", "--prefix", ...args.slice(1))
  const admit = async () => {
    await permission("grant-permission", "readwrite", "dlock:")
    return true
  }
  const withoutPermission: ServerFault = {
    weight: 1,
    forgets: false,
    limbo: recounted,
    inject: async (_, random) => {
      try {
        await permission("revoke-permission", "dlock:")
        await sleep(random.between(200, 4_000))
      } finally {
        await eventually(admit, 10_000)
      }
    }
  }

  return {
    ttl,
    ports: [...hosts, ...(proxy === undefined ? [] : [proxy.port])],
    // Each begins with another host, and goes on to the next where that one refuses.
    through: (ports, index) => {
      const direct = ports.slice(0, hosts.length)
      const first = index % direct.length
      const mine = proxy !== undefined && isBehindProxy(index)
        ? ports.slice(hosts.length)
        : [...direct.slice(first), ...direct.slice(0, first)]
      return {
        kind: "etcd",
        hosts: mine.map((port) => `http://127.0.0.1:${port}`),
        ...(isGuarded && { username: "app", password: "right" })
      }
    },
    ...(proxy !== undefined && { ttlOf: (index) => isBehindProxy(index) ? ttlBehindProxy : undefined }),
    serverFaults: {
      ...(count === 1
        ? { "freeze the server": freeze(leader), "restart the server": restart(leader) }
        : {
          "freeze the leader": freeze(leader),
          "freeze a member": freeze(async (random) => random.pick(servers)),
          "kill the leader": restart(leader)
        }),
      ...(dimensions.has("tokens") && { "change the users": changeUsers }),
      ...(refuser !== undefined && {
        "a member has too many requests": refuse(refuser, 8, "etcdserver: too many requests"),
        "a member is corrupt": refuse(refuser, 15, "etcdserver: corrupt cluster")
      }),
      ...(proxy !== undefined && { "restart the proxy": restartProxy(proxy) }),
      ...(dimensions.has("space") && { "refuse the space": outOfSpace }),
      ...(dimensions.has("permissions") && { "refuse the role": withoutPermission })
    },
    keyFaults: {
      "delete the key": {
        weight: 14,
        harmless: true,
        inject: async (key, about) => {
          const holder = await holderOf(key)
          about([key])
          if (holder !== undefined) await asAdmin((admin) => admin.delete().key(holder.key).exec())
        }
      },
      "revoke the lease": {
        weight: 8,
        inject: async (key, about) => {
          const holder = await holderOf(key)
          if (holder === undefined || holder.lease === "0") return
          const { keys } = await asAdmin(({ leaseClient }) =>
            leaseClient.leaseTimeToLive({ ID: holder.lease, keys: true })
          )
          // A claim that joins the lease between the question and its end is one on the same key or is heard of by nobody.
          about(keys.map((one) => String(one).replace(/^dlock:/, "").replace(/\/[^/]*$/, "")))
          await asAdmin(({ leaseClient }) => leaseClient.leaseRevoke({ ID: holder.lease }))
        }
      },
      "compact the history": {
        weight: 1,
        harmless: true,
        inject: async (_, about) => {
          about([])
          await asAdmin(async ({ kv }) => {
            const { header } = await kv.range({ key: Buffer.from("x") })
            await kv.compact({ revision: header.revision })
          })
        }
      }
    },
    whole: async () => {
      for (const { signal } of servers) signal("SIGCONT")
      await eventually(inStep, 20_000)
    },
    orphans: async () => {
      const keys = (await asAdmin((admin) => admin.getAll().keys())).filter((key) => !key.includes("\0"))
      const states = await asAdmin(async ({ leaseClient }) => {
        const { leases } = await leaseClient.leaseLeases()
        return Promise.all(leases.map(({ ID }) => leaseClient.leaseTimeToLive({ ID, keys: true })))
      })
      // A lease of tombstones ends by itself: it is the one with the long time, and its first tombstone may never have come.
      const live = states.filter(({ grantedTTL, keys }) =>
        keys.length === 0 ? Number(grantedTTL) < 600 : !keys.every((key) => String(key).includes("\0"))
      )
      return [
        ...keys,
        ...live.map(({ ID, TTL, grantedTTL, keys }) => `lease ${ID}, ${TTL} of ${grantedTTL} s, ${keys.length} keys`)
      ]
    },
    ...(process.platform === "linux" && { waited: watchWaits([...servers, ...(proxy === undefined ? [] : [proxy])]) }),
    skipped: [],
    stop: async () => {
      admin.close()
      await stop()
    }
  }
}
