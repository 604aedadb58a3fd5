/** Preloaded by a process whose time of day is to be off by the milliseconds in CLOCK_OFF. */
const offset = Number(process.env.CLOCK_OFF)
const { now } = Date
Date.now = () => now() + offset
