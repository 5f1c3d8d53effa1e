/**
 * What is taken of the client library, which is many times larger than all the rest: it is loaded where a kubeconfig is to
 * be read or YAML to be written, and stays a file of its own in what is built.
 */
export { dumpYaml, KubeConfig } from "@kubernetes/client-node";
