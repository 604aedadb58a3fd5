/** Gives a test what it started, and stops it at the test's end. */
export const using = async <S extends { readonly stop: () => Promise<void> }>(
  starting: Promise<S>,
  use: (started: S) => Promise<void>
): Promise<void> => {
  const started = await starting
  try {
    await use(started)
  } finally {
    await started.stop()
  }
}
