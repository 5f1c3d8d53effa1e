Feature: Restart a workload when its tag has moved
  Kubernetes starts a pod from a tag and never looks at the tag again: when a new image is pushed under
  it, the old one keeps running. figwasp looks, and starts a rolling restart, so that the clients come
  to hear the new image.

  Background:
    Given a repository with an image of a server that says "v1"

  Rule: A moved tag restarts the workload, wherever figwasp runs

    Scenario: The new image is heard after figwasp ran as a Job
      Given a Deployment of that image
      And a client that hears "v1"
      When an image that says "v2" is pushed under the same tag
      And figwasp runs as a Job
      Then the client comes to hear "v2"

    Scenario: The new image is heard after figwasp ran as a CronJob
      Given a Deployment of that image, with the label that figwasp looks for
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as its CronJob
      Then the client comes to hear "v2"

    @as-in-readme
    Scenario: The new image is heard after figwasp ran on a laptop
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs
      Then the client comes to hear "v2"

  Rule: Every kind that rolls is followed

    Scenario: A StatefulSet is restarted
      Given a StatefulSet of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"
      And another run of figwasp starts no rollout

    Scenario: A DaemonSet is restarted
      Given a DaemonSet of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"
      And another run of figwasp starts no rollout

  Rule: Every container counts, and together they make one rollout

    Background:
      Given another repository with an image of a server that says "a1"

    Scenario: Two containers changed at once
      Given a Deployment of both images
      And an image that says "v2" is pushed under the same tag
      And an image that says "a2" is pushed to the other repository
      When figwasp runs
      Then the client comes to hear "v2"
      And there has been one rollout
      And another run of figwasp starts no rollout

    Scenario: The image of an init container changed
      Given a Deployment of that image, with an init container of the other one
      And an image that says "a2" is pushed to the other repository
      When figwasp runs
      Then there has been one rollout
      And another run of figwasp starts no rollout

    Scenario: The image of a sidecar changed
      Given a Deployment of that image, with a sidecar of the other one
      And an image that says "a2" is pushed to the other repository
      When figwasp runs
      Then there has been one rollout
      And another run of figwasp starts no rollout

  Rule: One push is one rollout

    Scenario: Every push is followed by one rollout
      Given a Deployment of that image
      When an image that says "v2" is pushed under the same tag
      And figwasp runs as a Job
      And the client comes to hear "v2"
      And an image that says "v3" is pushed under the same tag
      And figwasp runs as a Job
      Then the client comes to hear "v3"
      And there have been 2 rollouts
      And another run of figwasp starts no rollout

    Scenario: The tag moves back and forth
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      And figwasp runs
      And the client comes to hear "v2"
      When the tag is moved back to the image that says "v1"
      And figwasp runs
      Then the client comes to hear "v1"
      And there have been 2 rollouts
      And another run of figwasp starts no rollout

  Rule: Without a moved tag nothing is touched

    Scenario: Nothing was pushed
      Given a Deployment of that image
      When figwasp runs as a Job
      Then figwasp succeeds and says "current, nothing to do"
      And the same pods keep running

    Scenario: Another tag of the repository moved
      Given a Deployment of that image
      And an image that says "v2" is pushed under tag "next"
      When figwasp runs
      Then figwasp succeeds and says "current, nothing to do"
      And the same pods keep running

    Scenario: A tag other than latest is followed
      Given the tag "1.2" with an image that says "v1.2.0"
      And a Deployment of that image
      And an image that says "v1.2.1" is pushed under the same tag
      When figwasp runs
      Then the client comes to hear "v1.2.1"
