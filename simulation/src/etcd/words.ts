import type { ITxnRequest, ITxnResponse } from "etcd3"

/** A transaction in a few words, for a trace. */
export const wordsOf = ({ compare = [], failure = [], success = [] }: ITxnRequest): string => {
  const one = (operation: NonNullable<ITxnRequest["success"]>[number]): string => {
    const { request_delete_range, request_put, request_range } = operation
    if (request_put !== undefined) return `put ${text(request_put.key)} on ${request_put.lease}`
    if (request_delete_range !== undefined) return `delete ${text(request_delete_range.key)}`
    return `range ${text(request_range?.key)}${request_range?.range_end === undefined ? "" : "..."}`
  }
  const when = compare.map(({ create_revision, key }) => `${text(key)}@${create_revision}`).join(" ")
  const otherwise = failure.length === 0 ? "" : ` else ${failure.map(one).join(", ")}`
  return `${when === "" ? "" : `if ${when}: `}${success.map(one).join(", ")}${otherwise}`
}

const text = (key: unknown): string => JSON.stringify(String(key))

/** An answer likewise. */
export const wordsOfAnswer = (answer: unknown): string => {
  if (answer instanceof Error) return answer.message
  const { header, responses, succeeded } = (answer ?? {}) as Partial<ITxnResponse>
  if (responses === undefined) return JSON.stringify(answer) ?? "done"
  const parts = responses.map(({ response_delete_range, response_range }) =>
    response_range !== undefined
      ? `[${response_range.kvs.map(({ create_revision, key }) => `${text(key)}@${create_revision}`).join(" ")}]`
      : response_delete_range !== undefined
      ? `deleted ${response_delete_range.deleted}`
      : "put"
  )
  return `revision ${header?.revision}, ${succeeded ? "then" : "else"} ${parts.join(", ")}`
}
