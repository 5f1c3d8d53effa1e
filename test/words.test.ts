import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readWords } from "../lib/command/words.ts";

const containers = ["app", "web"].map((name) => ({ name, image: `ghcr.io/acme/${name}:1` }));

function readLabel(word: string) {
  return readWords({ isDeleted: false, ownLabels: { "figwasp/paused": word }, ownAnnotations: {}, containers });
}

function readAnnotation(words: string) {
  return readWords({ isDeleted: false, ownLabels: {}, ownAnnotations: { "figwasp/containers": words }, containers });
}

describe("readWords()", () => {
  it("takes a workload without words as one that is looked at whole", () => {
    const words = readWords({ isDeleted: false, ownLabels: {}, ownAnnotations: {}, containers });
    assert.deepEqual(words, { isPaused: false, containers: undefined });
  });

  it("reads the label figwasp/paused", () => {
    assert.deepEqual(readLabel("true"), { isPaused: true, containers: undefined });
    assert.deepEqual(readLabel("false"), { isPaused: false, containers: undefined });
  });

  it("does not read the annotation of a workload that is to be left alone", () => {
    const ownLabels = { "figwasp/paused": "true" };
    const words = readWords({
      isDeleted: false,
      ownLabels,
      ownAnnotations: { "figwasp/containers": "foo" },
      containers,
    });
    assert.deepEqual(words, { isPaused: true, containers: undefined });
  });

  it("reads nothing of a workload that is being deleted", () => {
    const ownLabels = { "figwasp/paused": "yes" };
    const words = readWords({ isDeleted: true, ownLabels, ownAnnotations: {}, containers });
    assert.deepEqual(words, { isPaused: false, containers: undefined });
  });

  it("refuses a word that stands where it is not read", () => {
    const misplaced = { isDeleted: false, ownLabels: {}, ownAnnotations: {}, containers };
    const annotated = { ...misplaced, ownAnnotations: { "figwasp/paused": "true" } };
    assert.throws(() => readWords(annotated), /^Error: it has an annotation figwasp\/paused, and a label of that name/);
    const labelled = { ...misplaced, ownLabels: { "figwasp/containers": "app" } };
    assert.throws(() => readWords(labelled), /^Error: it has a label figwasp\/containers, and an annotation of that/);
  });

  for (const word of ["yes", "True", "1", "", " true"]) {
    it(`refuses the label figwasp/paused=${JSON.stringify(word)}`, () => {
      const message = `its label figwasp/paused is ${JSON.stringify(word)}, true or false is needed`;
      assert.throws(() => readLabel(word), { name: "Error", message });
    });
  }

  const lists: [string, string[]][] = [
    ["app", ["app"]],
    ["app,web", ["app", "web"]],
    [" web ,\n app\t", ["web", "app"]],
    ["app,app", ["app"]],
  ];
  for (const [words, names] of lists) {
    it(`reads the annotation figwasp/containers: ${JSON.stringify(words)}`, () => {
      assert.deepEqual(readAnnotation(words), { isPaused: false, containers: new Set(names) });
    });
  }

  const none = "names no container, one of app, web is needed";
  const mistakes: [string, string][] = [
    ["", none],
    ["  ", none],
    [" , ,", none],
    ["foo", 'names "foo", which is none of its containers: app, web'],
    ["app,foo,bar", 'names "foo", which is none of its containers: app, web'],
    ["app,", 'names "", which is none of its containers: app, web'],
    ["app,,web", 'names "", which is none of its containers: app, web'],
    ["App", 'names "App", which is none of its containers: app, web'],
    ["app web", 'names "app web", which is none of its containers: app, web'],
    ["app\u{202e}", 'names "app\\u{202e}", which is none of its containers: app, web'],
  ];
  for (const [words, found] of mistakes) {
    it(`refuses the annotation figwasp/containers: ${JSON.stringify(words)}`, () => {
      assert.throws(() => readAnnotation(words), {
        name: "Error",
        message: `its annotation figwasp/containers ${found}`,
      });
    });
  }
});
