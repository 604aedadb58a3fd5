import * as Fs from "node:fs"
import * as Path from "node:path"
import { find } from "./programs.ts"
import { freePorts, retry, type Server, start } from "./server.ts"

/** One line of a chart: what tells it from others, and its values by seconds since 1970. */
export interface Series {
  readonly labels: Readonly<Record<string, string>>
  readonly points: ReadonlyArray<readonly [seconds: number, value: number]>
}

export interface Range {
  /** Seconds since 1970. */
  readonly from: number
  readonly to: number
  readonly step: number
}

export interface Prometheus extends Server {
  /** What a query is over a time. */
  readonly query: (expression: string, range: Range) => Promise<ReadonlyArray<Series>>
  /** The alerts that are pending or firing now. */
  readonly alerts: () => Promise<ReadonlyArray<{ readonly labels: Readonly<Record<string, string>> }>>
}

export interface PrometheusOptions {
  /** Whom to scrape, by the name that they get as `instance`. */
  readonly targets: Readonly<Record<string, string>>
  readonly scrapeSeconds?: number
  /** Paths of files with rules. */
  readonly rules?: ReadonlyArray<string>
}

interface Result {
  readonly metric: Readonly<Record<string, string>>
  readonly values: ReadonlyArray<readonly [number, string]>
}

/** The configuration is JSON, which is YAML too. */
const configuration = ({ rules = [], scrapeSeconds = 1, targets }: PrometheusOptions): string =>
  JSON.stringify({
    global: { scrape_interval: `${scrapeSeconds}s`, scrape_timeout: `${scrapeSeconds}s`, evaluation_interval: "1s" },
    rule_files: rules,
    scrape_configs: [{
      job_name: "shop",
      static_configs: Object.entries(targets).map(([instance, address]) => ({
        targets: [address],
        labels: { instance }
      }))
    }]
  })

/** Starts a Prometheus on loopback that scrapes the targets from now on. */
export const startPrometheus = async (options: PrometheusOptions): Promise<Prometheus> => {
  const program = find("prometheus")
  return retry(async () => {
    const [port] = await freePorts(1)
    const url = `http://127.0.0.1:${port}`
    const api = async (path: string, parameters: Readonly<Record<string, string>> = {}) => {
      const response = await fetch(`${url}/api/v1/${path}`, { method: "POST", body: new URLSearchParams(parameters) })
      const body: { readonly status: string; readonly error?: string; readonly data: any } = await response
        .json() as any
      if (body.status !== "success") throw new Error(`${path} ${JSON.stringify(parameters)}: ${body.error}`)
      return body.data
    }
    const server = await start({
      name: "prometheus",
      program,
      port: port as number,
      url,
      args: (dir) => {
        const file = Path.join(dir, "prometheus.yml")
        Fs.writeFileSync(file, configuration(options))
        return [
          `--config.file=${file}`,
          `--storage.tsdb.path=${Path.join(dir, "data")}`,
          `--web.listen-address=127.0.0.1:${port}`
        ]
      },
      ready: async () => (await fetch(`${url}/-/ready`)).ok
    })
    return Object.assign(server, {
      query: async (expression: string, { from, step, to }: Range) => {
        const { result }: { readonly result: ReadonlyArray<Result> } = await api("query_range", {
          query: expression,
          start: `${from}`,
          end: `${to}`,
          step: `${step}`
        })
        return result.map(({ metric, values }) => ({
          labels: metric,
          points: values.map(([seconds, value]) => [seconds, Number(value)] as const)
        }))
      },
      alerts: async () => {
        const response = await fetch(`${url}/api/v1/alerts`)
        return (await response.json() as any).data.alerts
      }
    })
  })
}
