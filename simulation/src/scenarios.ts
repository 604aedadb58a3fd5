import { leaders, revocations } from "./admins.ts"
import { refusalWeights } from "./faultKinds.ts"
import { type LockShape, reader, writer } from "./lockShape.ts"
import type { SectionPlan } from "./plan.ts"
import { calm, incidentOf, list, type Scenario, sections } from "./scenarioParts.ts"
import { millis } from "./timeline.ts"

/** A process with many waiters before those of others dies, or gives up all of them at once. */
const crowds: Scenario = (plan, random) => {
  const ttl = random.pick([1_000, 5_000, 15_000, 60_000])
  const section = sections(ttl)
  const dying = list(
    random.spread(2, 100),
    () => [section({ delay: random.between(1, 200), pause: random.between(1, 300) })]
  )
  const others = list(
    random.between(1, 3),
    () =>
      list(
        random.between(1, 4),
        () => list(random.between(1, 2), () => section({ delay: random.between(1, 500), pause: random.between(1, 50) }))
      )
  )
  const crash = incidentOf("client crashed", { at: millis(random.between(10, 700)) })
  const incidents = random.chance(0.7)
    ? [crash]
    : dying.flat().map(({ number }) => incidentOf("interrupt", { name: `e${number}`, at: crash.at, section: number }))
  return calm(plan, ttl, [dying, ...others], incidents)
}

/** Notifications of grants are lost, or arrive while a request of the waiter is in flight. */
const lostNotifications: Scenario = (plan, random) => {
  if (plan.backend === "etcd") return lateNotifications(plan, random)
  const ttl = random.pick([3_000, 15_000, 60_000])
  const section = sections(ttl)
  const processes = list(random.between(2, 3), () =>
    list(
      random.spread(2, 30),
      () => [section({ delay: random.between(1, 200), pause: random.between(1, 20) })]
    ))
  if (random.chance(0.5)) {
    const made = calm(plan, ttl, processes, [])
    return { ...made, notificationFaultRate: random.pick([0.03, 0.1, 0.3]), healedAt: millis(30_000) }
  }
  const cuts = list(random.between(1, 3), (index) =>
    incidentOf("connections cut", {
      name: `cut-${index}`,
      at: millis(random.between(50, 1_500)),
      process: random.between(0, processes.length - 1),
      choice: random.between(0, 1_000_000)
    }))
  return {
    ...calm(plan, ttl, processes, cuts),
    messageFaultRate: random.pick([0.1, 0.3]),
    messages: { "reply late": 1 },
    longestDelay: millis(300),
    healedAt: millis(5_000)
  }
}

/**
 * Crowds give up at the same moment and ask again, so that keys in the queue are used again, while events are late
 * against answers. Now and then an operator deletes a claim, or answers are late or lost too.
 */
const lateNotifications: Scenario = (plan, random) => {
  const ttl = random.pick([2_000, 12_000])
  const section = sections(ttl)
  const patience = random.spread(5, 300)
  const crowd = (size: number, from = 0) => {
    const haste = random.pick([0, 0.5, 0.9, 1])
    const times = random.between(1, 5)
    return list(size, () =>
      list(random.between(1, times), () =>
        section({
          timeout: random.chance(haste) ? random.pick([patience, patience, random.spread(5, 1_000)]) : undefined,
          delay: random.pick([0, 0, 1, random.spread(1, 100)]) + random.between(0, from),
          steps: random.between(1, 2),
          pause: random.pick([1, 1, 10, 50])
        })))
  }
  // A claim that comes after crowds has many before it, and knows only the nearest of them.
  const processes = random.chance(0.3)
    ? [crowd(random.between(2, 6), 100), ...list(random.between(2, 3), () => crowd(random.between(15, 40)))]
    : [crowd(random.between(9, 24)), ...list(random.between(1, 2), () => crowd(random.spread(1, 24)))]
  const all = processes.map((programs) => programs.flat())
  const givenUp = list(random.between(0, 3), (nth) => {
    const at = millis(random.spread(5, 500))
    const share = random.pick([0.5, 0.9, 1])
    return random.pick(all).filter(() => random.chance(share)).map(({ number }) =>
      incidentOf("interrupt", { name: `e${nth}-${number}`, at, section: number })
    )
  }).flat()
  const deleted = list(random.chance(0.3) ? random.between(1, 10) : 0, (index) =>
    incidentOf("claim deleted", {
      name: `d${index}`,
      at: millis(random.spread(5, 800)),
      choice: random.between(0, 1_000_000)
    }))
  return {
    ...calm(plan, ttl, processes, [...givenUp, ...deleted]),
    messageFaultRate: random.pick([0, 0, 0.02, 0.2]),
    messages: { "reply late": 1, "reply lost": 1, "request late": 1, "error after": 4 },
    notifications: { "notification late": 1 },
    notificationFaultRate: random.pick([0.03, 0.1, 0.5]),
    longestDelay: millis(random.pick([200, 3_000])),
    healedAt: millis(random.pick([1_000, 5_000]))
  }
}

/** Processes pause or are interrupted, and there are no other faults. */
const stalls: Scenario = (plan, random) => {
  const lasts = () => millis(random.spread(10, 4 * plan.longestTtl))
  const incidents = list(
    random.between(2, 8),
    (index) =>
      incidentOf(random.pick(["client paused", "client paused", "interrupt"]), {
        name: `e${index}`,
        at: millis(random.between(1, 3_000)),
        duration: lasts(),
        process: random.between(0, plan.processes.length - 1),
        section: random.between(0, plan.processes.flat(2).length - 1),
        afterMessages: random.pick([0, 1, 2, 3, 4]),
        choice: random.between(0, 1_000_000),
        aimed: random.chance(0.3)
      })
  )
  const made = calm(plan, plan.longestTtl, plan.processes, incidents)
  return { ...made, isHealthy: true, keys: plan.keys, kind: plan.kind }
}

/**
 * Lockers close while sections run in other fibers, which then need time to end, and while others have just asked for
 * locks with a long ttl.
 */
const closing: Scenario = (plan, random) => {
  const going = plan.processes.map((programs) =>
    programs.map((sections) =>
      sections.map((section) => ({ ...section, windDown: random.spread(5, 3 * Math.max(100, section.ttl / 10)) }))
    )
  )
  const incidents = list(random.between(1, going.length), (index) =>
    incidentOf("locker closed", {
      name: `e${index}`,
      at: millis(random.between(1, 3_000)),
      process: index,
      choice: random.between(0, 1_000_000),
      aimed: random.chance(0.7)
    }))
  const section = sections(60_000, 1_000)
  const acquiring = (index: number) =>
    list(random.spread(1, 40), (nth) => {
      const at = (incidents[index]?.at ?? 0) / 1_000
      const delay = Math.max(0, at - random.between(-1, 3))
      return [section({ key: `late-${index}-${nth}`, shape: going[index]![0]![0]!.shape, delay, pause: 50 })]
    })
  const processes = going.map((programs, index) => random.chance(0.5) ? [...programs, ...acquiring(index)] : programs)
  const made = calm(plan, plan.longestTtl, processes, incidents)
  const longestPause = Math.max(...processes.flat(2).map(({ pause, windDown }) => pause + windDown))
  return { ...made, keys: plan.keys, kind: plan.kind, longestPause }
}

/** For a while a server refuses new connections of a process, or all of its requests. */
const refusedHandshakes: Scenario = (plan, random) => {
  const incidents = list(random.between(1, 3), (index) =>
    incidentOf("credentials refused", {
      name: `e${index}`,
      at: millis(random.between(1, 3_000)),
      duration: millis(random.spread(10, 2 * plan.longestTtl)),
      process: random.between(0, plan.processes.length - 1),
      choice: random.between(0, 1_000_000),
      aimed: random.chance(0.6)
    }))
  return { ...calm(plan, plan.longestTtl, plan.processes, incidents), keys: plan.keys, kind: plan.kind }
}

/** Processes with waiting claims, or holders, die, or pause for so long that others consider them dead. */
const deadWaiters: Scenario = (plan, random) => {
  const ttl = random.pick([12_000, 30_000])
  const section = sections(ttl)
  const processes = list(random.between(3, 5), () =>
    list(
      random.spread(1, 6),
      () =>
        list(random.between(1, 2), () =>
          section({
            form: random.weighted({ section: 6, trySection: 1 }),
            delay: random.spread(1, 2_000),
            pause: random.spread(1, 3_000)
          }))
    ))
  const incidents = list(
    random.between(1, 3),
    (index) =>
      incidentOf(random.pick(["client crashed", "client paused", "client paused", "cut off"]), {
        name: `e${index}`,
        at: millis(random.spread(10, 8_000)),
        duration: millis(random.between(4_000, 9_500)),
        process: index,
        aimed: random.chance(0.3),
        choice: random.between(0, 1_000_000)
      })
  )
  return calm(plan, ttl, processes, incidents)
}

/**
 * Many acquires at the same moment, with tries and short timeouts among them. There are no faults, or some answers are
 * lost.
 */
const bursts: Scenario = (plan, random) => {
  const ttl = random.pick([2_000, 12_000])
  const section = sections(ttl)
  const keys = ["k0", "k1", "k2"].slice(0, random.between(1, 3))
  const isHasty = random.chance(0.5)
  const patience = random.between(5, 60)
  const processes = list(
    random.between(1, 3),
    () =>
      list(random.spread(5, 80), () =>
        list(random.between(1, 2), () =>
          section({
            key: random.pick(keys),
            form: random.weighted({ section: 6, trySection: 3, tryScope: 1 }),
            // Many give up at the same moment.
            timeout: isHasty && random.chance(0.5)
              ? random.pick([patience, patience, random.spread(5, 500)])
              : undefined,
            delay: random.pick([1, 1, 1, random.between(1, 50)]),
            steps: random.between(1, 2),
            pause: random.pick([1, 1, 10])
          })))
  )
  // An acquire with a very short timeout cannot tell a crowd from a server that does not answer.
  const made = { ...calm(plan, ttl, processes, []), keys, isHealthy: !isHasty }
  if (random.chance(0.5)) return made
  return {
    ...made,
    isHealthy: false,
    messageFaultRate: random.pick([0.02, 0.1]),
    longestDelay: millis(500),
    healedAt: millis(random.between(100, 3_000))
  }
}

/**
 * A few processes with several sections each on one lock. An operator deletes their claims, also claims that were just
 * granted.
 */
const deletedClaims: Scenario = (plan, random) => {
  const ttl = 12_000
  const section = sections(ttl)
  const processes = list(
    random.between(2, 3),
    () =>
      list(random.between(2, 6), () =>
        list(random.between(1, 4), () => {
          // Claims with the same ttl share a lease: some claims should lose theirs before the holder does.
          const isShort = random.chance(0.3)
          return section({
            ...(isShort && { ttl: 1_500 }),
            delay: random.pick([1, random.between(1, 20)]),
            steps: 3,
            pause: !isShort && random.chance(0.2) ? random.between(500, 1_500) : random.spread(1, 20)
          })
        }))
  )
  const incidents = list(
    random.between(5, 40),
    (index) =>
      incidentOf(index < 2 ? random.pick(["listener silent", "cut off", "claim deleted"]) : "claim deleted", {
        name: `e${index}`,
        at: millis(random.spread(5, 800)),
        duration: millis(random.spread(10, 8_000)),
        process: random.between(0, processes.length - 1),
        choice: random.between(0, 1_000_000)
      })
  )
  return calm(plan, ttl, processes, incidents)
}

/**
 * Sections of a semaphore or a read-write lock. An operator deletes their claims, or one of a writer's two keys, also before the
 * process has the answer to the request that put the claim. Many are inside together, and some for so long that the watch on held
 * claims has begun and reports.
 */
const sharedDeletions: Scenario = (plan, random) => {
  const ttl = random.pick([4_000, 12_000])
  const section = sections(ttl)
  const kind = random.pick(["semaphore", "readWrite"] as const)
  const writers = random.pick([0, 0.1, 0.4])
  const shapeOf = (): LockShape => {
    if (kind === "semaphore") return { kind, permits: random.between(1, 3), capacity: 8 }
    return random.chance(writers) ? writer : reader
  }
  const one = (delay: number, pause: number): SectionPlan => {
    const shape = shapeOf()
    const downgradesAfter = shape === writer && random.chance(0.5) ? 1 : undefined
    const timeout = random.chance(0.1) ? random.spread(5, 1_000) : undefined
    return section({ shape, downgradesAfter, timeout, delay, steps: 3, pause })
  }
  const processes = list(
    random.between(1, 3),
    () => [
      [one(1, 700)],
      ...list(
        random.between(2, 8),
        () =>
          list(
            random.between(1, 3),
            () => one(random.between(1, 500), random.chance(0.5) ? random.between(50, 600) : random.spread(1, 50))
          )
      )
    ]
  )
  const incidents = list(random.spread(1, 60), (index) =>
    incidentOf("claim deleted", {
      name: `e${index}`,
      at: millis(random.between(1, 1_500)),
      choice: random.between(0, 1_000_000)
    }))
  return {
    ...calm(plan, ttl, processes, incidents),
    kind,
    messageFaultRate: random.pick([0, 0.1, 0.4]),
    messages: { "reply late": 1 },
    longestDelay: millis(200),
    healedAt: millis(4_000)
  }
}

/**
 * Members refuse requests or are silent, or the cluster has no space, or the user loses a permission. In some worlds
 * only one member does so; unless it is silent, nobody may notice if there are others. In half of the worlds all other
 * faults happen too.
 */
const refusals: Scenario = (plan, random) => {
  const sick = random.chance(0.5) ? random.between(0, 2) : undefined
  const isSilent = random.chance(0.3)
  const weights: Record<keyof typeof refusalWeights, number> = {
    ...refusalWeights,
    ...(!isSilent && { "member silent": 0 }),
    ...(sick !== undefined && { "space exceeded": 0, "permission denied": 0 })
  }
  const incidents = list(random.between(1, 8), (index) =>
    incidentOf(random.weighted(weights), {
      name: `r${index}`,
      at: millis(random.between(1, 3_000)),
      duration: millis(random.spread(10, 2 * plan.longestTtl)),
      process: sick ?? random.between(0, 2),
      choice: random.between(0, 1_000_000)
    }))
  const made = calm(plan, plan.longestTtl, plan.processes, incidents)
  // A call to a silent member may take more time than its caller has.
  if (random.chance(0.5)) return { ...made, isHealthy: !isSilent, keys: plan.keys, kind: plan.kind }
  return {
    ...plan,
    isFaultFree: false,
    isHealthy: false,
    incidents: [...plan.incidents, ...incidents],
    healedAt: Math.max(plan.healedAt, made.healedAt)
  }
}

/**
 * Sections want some of three locks at once. Mostly all other faults are those of the world. Now and then what fails is
 * only that which could bring two callers into different orders: one of the queues is lost while requests for several
 * locks are repeated because their answers are.
 */
const several: Scenario = (plan, random) => {
  const keys = ["k0", "k1", "k2"]
  const shapes = plan.processes.map((programs) => programs.flat().map(({ shape }) => shape))
  const processes = plan.processes.map((programs, index) =>
    programs.map((sections) =>
      sections.map((section) => {
        const some = keys.map((key) => ({ key, at: random.next() })).toSorted((a, b) => a.at - b.at)
          .slice(0, random.pick([1, 2, 2, 3])).map(({ key }) => key)
        const [key, ...rest] = some
        return {
          ...section,
          key: key!,
          also: rest.map((key) => ({ key, shape: random.pick(shapes[index]!) })),
          delay: Math.ceil(section.delay / random.pick([1, 4, 20])),
          // A writer among others does not let readers in.
          downgradesAfter: rest.length === 0 ? section.downgradesAfter : undefined
        }
      })
    )
  )
  const wanted = { ...plan, keys, processes }
  if (plan.backend === "etcd" || random.chance(0.8)) return wanted
  const incidents = list(random.between(2, 12), (index) =>
    incidentOf("queue deleted", {
      name: `q${index}`,
      at: millis(random.spread(5, 3_000)),
      key: random.pick(keys)
    }))
  return {
    ...calm(plan, plan.longestTtl, processes, incidents),
    keys,
    kind: plan.kind,
    messageFaultRate: random.pick([0.1, 0.3, 0.5]),
    messages: { "reply lost": 4, "reply late": 1, "request late": 1 },
    longestDelay: millis(2_000)
  }
}

/**
 * Sections last long and end when others wait for their locks. In half of the worlds nothing goes wrong: then holders must be
 * told at once.
 */
const contention: Scenario = (plan, random) => {
  const processes = plan.processes.map((programs) =>
    programs.map((sections) =>
      sections.map((section) => ({
        ...section,
        steps: section.steps * random.pick([1, 2, 6]),
        givesWay: section.downgradesAfter === undefined && random.chance(0.8)
      }))
    )
  )
  if (random.chance(0.5)) return { ...plan, processes }
  return {
    ...plan,
    processes,
    isFaultFree: true,
    isHealthy: true,
    neverNotified: false,
    incidents: [],
    messageFaultRate: 0,
    notificationFaultRate: 0,
    healedAt: 0
  }
}

/**
 * Sections have a cap on holding. Their programs end soon after it, or need most of the guard gap, or longer, or longer than
 * their claim may stand. Half of the worlds have no other fault.
 */
const caps: Scenario = (plan, random) => {
  const processes = plan.processes.map((programs) =>
    programs.map((sections) =>
      sections.map((section) => {
        const { pause, steps, ttl } = section
        if (random.chance(0.3)) return section
        const gap = Math.max(100, ttl / 10)
        const windDown = Math.round(random.pick([0, 0.3 * gap, 0.9 * gap, 2 * gap, ttl, 3 * (ttl + gap)]))
        return { ...section, windDown, maxHold: random.spread(1, Math.max(2, Math.round(1.3 * steps * pause))) }
      })
    )
  )
  const longestPause = Math.max(...processes.flat(2).map(({ pause, windDown }) => pause + windDown))
  const capped = { ...plan, processes, longestPause }
  if (random.chance(0.5)) return capped
  return {
    ...calm(plan, plan.longestTtl, processes, []),
    keys: plan.keys,
    kind: plan.kind,
    isHealthy: true,
    longestPause
  }
}

/** By dimension. */
export const scenarios = {
  contention,
  several,
  caps,
  revocations,
  leaders,
  crowds,
  notifications: lostNotifications,
  stalls,
  closing,
  handshakes: refusedHandshakes,
  refusals,
  "dead-waiters": deadWaiters,
  bursts,
  successors: deletedClaims,
  "shared-deletions": sharedDeletions
} as const satisfies Record<
  string,
  Scenario
>
