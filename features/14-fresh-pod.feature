Feature: Ask for what a fresh pod would run
  What a pod template names is not always what its pods run: admission rewrites images, fills in
  placeholders, pins digests and adds containers. figwasp asks for the images that the pods name, where
  the pods pull them, and restarts only if a fresh pod would run other content.

  Background:
    Given a repository with an image of a server that says "v1"

  Rule: An image that admission rewrites is asked for where the pods pull it

    Background:
      Given a copy of that image in a private registry
      And a webhook that makes pods pull the copy, with a pull secret of its own
      And a Deployment of that image

    Scenario: A push to the template's repository does not reach the pods
      When an image that says "v2" is pushed under the same tag
      And figwasp runs as a Job
      Then figwasp succeeds and says "current, nothing to do"
      And figwasp has asked for the copy alone
      And the same pods keep running

    Scenario: A push to the repository from which the pods pull
      When an image that says "v2" is pushed to the copy
      And figwasp runs as a Job
      Then figwasp succeeds and says "restarted, outdated: echo"
      And the client comes to hear "v2"
      And figwasp has asked for the copy alone

  Rule: What a fresh pod would run is what the youngest pod names

    Scenario: A webhook has rewritten the image of the youngest pod alone
      Given a Deployment of that image
      And a copy of that image in a private registry
      And a webhook that makes pods pull the copy, with a pull secret of its own
      And the Deployment is scaled to 3
      When an image that says "v2" is pushed under the same tag
      And figwasp runs as a Job
      Then figwasp succeeds and says "current, nothing to do"
      And there has been no rollout

  Rule: An image that admission fills in is followed

    Scenario: The template has a placeholder for the image
      Given a webhook that fills in the image of pods
      And a Deployment whose template has a placeholder for the image
      When an image that says "v2" is pushed under the same tag
      And figwasp runs
      Then figwasp succeeds and says "container echo (auto, asked about"
      And the client comes to hear "v2"
      And there has been one rollout
      And another run of figwasp starts no rollout

  Rule: Where admission pins pods by digest, the tag that it would resolve is asked for

    Scenario: Pods are pinned to the digest that the tag had
      Given a webhook that pins the images of pods by digest
      And a Deployment of that image
      When an image that says "v2" is pushed under the same tag
      And figwasp runs
      Then the client comes to hear "v2"
      And there has been one rollout
      And another run of figwasp starts no rollout

    Scenario: Pods are pinned, and pull only when the image is not present
      Given a webhook that pins the images of pods by digest
      And a Deployment of that image that pulls only when the image is not present
      When an image that says "v2" is pushed under the same tag
      And figwasp runs
      Then figwasp succeeds and says "restarted, outdated: echo"
      And the client comes to hear "v2"
      And another run of figwasp starts no rollout

    Scenario: Pods are pinned to another repository
      Given a webhook that pins the images of pods to another repository
      And a Deployment of that image
      When an image that says "v2" is pushed under the same tag
      And figwasp runs
      Then figwasp succeeds and says "another repository than the template's: what resolved it there is not asked"
      And the same pods keep running

    Scenario: The pod template would be pinned with the restart
      Given a Deployment of that image
      And a webhook that pins the images of pod templates by digest
      When an image that says "v2" is pushed under the same tag
      And figwasp runs
      Then figwasp succeeds and says "skipped, pinned by admission"
      And the same pods keep running

  Rule: What is injected into pods is somebody else's

    Scenario: A container that is not in the pod template
      Given another repository with an image of a server that says "a1"
      And a webhook that adds a container of the other image to pods
      And a Deployment of that image
      When an image that says "a2" is pushed to the other repository
      And figwasp runs
      Then figwasp succeeds and says "not in the pod template: what injects it decides about its image"
      And the same pods keep running
