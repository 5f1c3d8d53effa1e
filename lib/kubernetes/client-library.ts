/**
 * The parts of the client library that figwasp uses. The library is many times larger than figwasp itself, so it is
 * loaded only when a kubeconfig is read or YAML is written, and the build keeps it in a file of its own.
 */
export { dumpYaml, KubeConfig } from "@kubernetes/client-node";
