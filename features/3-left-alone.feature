Feature: Leave alone what a restart would not change
  A restart costs something. Where a fresh pod would run the same image as the old one, or where the
  operator has stopped the rollouts, figwasp starts none, and its log says why and what to change.

  Background:
    Given a repository with an image of a server that says "v1"

  Rule: An image that cannot change is skipped, with the reason

    Scenario: The image is pinned by its digest
      Given a Deployment of that image, pinned by its digest
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then figwasp succeeds and says "skipped, pinned by digest"
      And the same pods keep running

    Scenario: The pull policy would not pull
      Given a Deployment of that image that pulls only when the image is not present
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then figwasp succeeds and says "imagePullPolicy is IfNotPresent, so that a restart would not pull: set it to Always"
      And the same pods keep running

  Rule: A workload that does not roll is skipped, with the way out

    Scenario: A paused Deployment is left alone until it is resumed
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When the Deployment is paused and figwasp runs
      Then figwasp succeeds and says "paused: kubectl rollout resume lets it roll again"
      And the same pods keep running
      When the Deployment is resumed and figwasp runs
      Then the client comes to hear "v2"

    Scenario: A StatefulSet that replaces its pods on deletion alone
      Given a StatefulSet of that image that replaces its pods on deletion alone
      And an image that says "v2" is pushed under the same tag
      When figwasp runs
      Then figwasp succeeds and says "OnDelete: delete its pods, or set RollingUpdate"
      And there has been no rollout

    Scenario: A Deployment scaled to zero pulls by itself
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When the Deployment is scaled to 0 and figwasp runs
      Then figwasp succeeds and says "scaled to zero: there is nothing to compare"
      And there has been no rollout
      When the Deployment is scaled to 2
      Then the client comes to hear "v2"

  Rule: What its owner has written on the workload counts, whoever selects it

    Scenario: The label figwasp/paused says true
      Given a Deployment "my-app" of that image, labelled "figwasp/paused=true"
      And an image that says "v2" is pushed under the same tag
      When figwasp runs
      Then figwasp succeeds and says "skipped, paused by its label figwasp/paused"
      And the same pods keep running

    Scenario: The annotation figwasp/containers does not name the container
      Given another repository with an image of a server that says "a1"
      And a Deployment of both images, whose annotation "figwasp/containers" is "echo"
      And an image that says "a2" is pushed to the other repository
      When figwasp runs
      Then figwasp succeeds and says "not among the containers that its annotation figwasp/containers names"
      And the same pods keep running
      When an image that says "v2" is pushed under the same tag
      And figwasp runs
      Then the client comes to hear "v2"

    Scenario: An undo has taken the annotation figwasp/containers away
      Given another repository with an image of a server that says "a1"
      And a Deployment of both images
      And an image that says "v2" is pushed under the same tag
      And figwasp runs
      And the client comes to hear "v2"
      And its annotation "figwasp/containers" is set to "echo"
      And the rollout is undone, so that the client hears "v2"
      When an image that says "a2" is pushed to the other repository
      And figwasp runs
      Then figwasp succeeds and says "has lost its annotation figwasp/containers at an undo"
      And the last run says "restarted, outdated: other"

    Scenario: The annotation figwasp/containers names a container that is not there
      Given another repository with an image of a server that says "a1"
      And a Deployment of both images, whose annotation "figwasp/containers" is "app"
      And an image that says "v2" is pushed under the same tag
      When figwasp runs
      Then figwasp fails and says "which is none of its containers: echo, other"
      And the same pods keep running
