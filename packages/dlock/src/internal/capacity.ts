/** The capacity of every read-write lock. A sum of a few thousand such numbers is still exact in a double. */
export const readWriteCapacity = 2 ** 31 - 1
