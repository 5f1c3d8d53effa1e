/**
 * The objects that tell which pods are a workload's: its pods, and of some kinds its revisions. How they are read
 * depends on how many workloads of the namespace are looked at.
 */
import { shareCall } from "../calls.ts";
import { type Call, listAll } from "./api.ts";
import {
  type ControllerRevision,
  type Pod,
  type ReplicaSet,
  toControllerRevision,
  toPod,
  toReplicaSet,
  type Workload,
} from "./objects.ts";

/** What a workload owns, directly or through its ReplicaSets. */
export interface OwnedObjects {
  /** Of a Deployment; empty for the other kinds. */
  replicaSets: ReplicaSet[];
  /** Of a DaemonSet; empty for the other kinds. A StatefulSet names its newest revision in its status. */
  controllerRevisions: ControllerRevision[];
  /** By the uid of the object that manages them. Pods of other owners may be among them. */
  podsByOwner: ReadonlyMap<string, Pod[]>;
}

/** From this many listed workloads in a namespace on, its objects are read all at once, in pages of 500, instead of by
 *  two small lists for each workload. */
const bulkThreshold = 8;

// A ReplicaSet holds a pod template as large as the Deployment's; only its metadata is needed.
const metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/** Objects by the uid of the object that manages them. */
type ByOwner<Item> = ReadonlyMap<string, Item[]>;

/** By namespace: one list for all workloads of a bulk namespace. */
type BulkLists<Item> = Map<string, Promise<ByOwner<Item>>>;

interface ListOptions<Item> {
  path: string;
  bulkLists: BulkLists<Item>;
  pick: (object: never) => Item;
  accept?: string;
}

export class OwnedObjectsReader {
  readonly #call: Call;
  /** By namespace: how many workloads the lists have found, and which of them are still to be read. A workload that is
   *  read again by its name is a new object, is not among them, and has its pods read anew. */
  readonly #listed = new Map<string, { count: number; unread: Set<Workload> }>();
  readonly #bulkReplicaSets: BulkLists<ReplicaSet> = new Map();
  readonly #bulkControllerRevisions: BulkLists<ControllerRevision> = new Map();
  readonly #bulkPods: BulkLists<Pod> = new Map();

  constructor(call: Call) {
    this.#call = call;
  }

  /** Counts workloads that a list has found. All lists are read before the first pod. */
  noteListed(workloads: Workload[]): void {
    for (const workload of workloads) {
      const { count, unread } = this.#listed.get(workload.namespace) ?? { count: 0, unread: new Set() };
      this.#listed.set(workload.namespace, { count: count + 1, unread: unread.add(workload) });
    }
  }

  /** Reads only the lists that the workload's kind needs, so that a forbidden list fails no workload of another kind.
   *  Throws HttpError. */
  async read(workload: Workload): Promise<OwnedObjects> {
    const { kind } = workload;
    try {
      return {
        replicaSets: kind === "deployment" ? await this.#readReplicaSets(workload) : [],
        controllerRevisions: kind === "daemonset" ? await this.#readControllerRevisions(workload) : [],
        podsByOwner: await this.#readPods(workload),
      };
    } finally {
      this.#release(workload);
    }
  }

  /** Lets go of the lists of a namespace once all of its workloads have been read. */
  #release(workload: Workload): void {
    const { namespace } = workload;
    const unread = this.#listed.get(namespace)?.unread;
    const wasLast = unread?.delete(workload) === true && unread.size === 0;
    if (!wasLast) return;
    for (const lists of [this.#bulkReplicaSets, this.#bulkControllerRevisions, this.#bulkPods]) lists.delete(namespace);
  }

  async #readReplicaSets(workload: Workload): Promise<ReplicaSet[]> {
    const path = `/apis/apps/v1/namespaces/${workload.namespace}/replicasets`;
    const bulkLists = this.#bulkReplicaSets;
    const byOwner = await this.#list(workload, { path, bulkLists, pick: toReplicaSet, accept: metadataOnly });
    return byOwner.get(workload.uid) ?? [];
  }

  async #readControllerRevisions(workload: Workload): Promise<ControllerRevision[]> {
    const path = `/apis/apps/v1/namespaces/${workload.namespace}/controllerrevisions`;
    const bulkLists = this.#bulkControllerRevisions;
    const byOwner = await this.#list(workload, { path, bulkLists, pick: toControllerRevision });
    return byOwner.get(workload.uid) ?? [];
  }

  #readPods(workload: Workload): Promise<ByOwner<Pod>> {
    const path = `/api/v1/namespaces/${workload.namespace}/pods`;
    return this.#list(workload, { path, bulkLists: this.#bulkPods, pick: toPod });
  }

  #list<Item extends { ownerUid: string }>(
    workload: Workload,
    { path, bulkLists, ...options }: ListOptions<Item>,
  ): Promise<ByOwner<Item>> {
    const read = async (selector: string) => {
      const items = await listAll(this.#call, path, { selector, ...options });
      return Map.groupBy(items, ({ ownerUid }) => ownerUid);
    };
    const { namespace, selector } = workload;
    const listed = this.#listed.get(namespace);
    const isBulk = listed !== undefined && listed.count >= bulkThreshold && listed.unread.has(workload);
    return isBulk ? shareCall(bulkLists, namespace, () => read("")) : read(selector);
  }
}
