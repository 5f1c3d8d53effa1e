Feature: Restart a Deployment when its tag has moved
  Kubernetes starts a pod from a tag and never looks at the tag again: when a new image is pushed under
  it, the old one keeps running. figwasp looks, and starts a rolling restart, so that the clients of the
  Deployment come to hear the new image.

  Background:
    Given a repository with an image of a server that says "v1"

  Rule: A moved tag restarts the Deployment

    Scenario: The new image is heard after figwasp ran as a Job
      Given a Deployment of that image
      And a client that hears "v1"
      When an image that says "v2" is pushed under the same tag
      And figwasp runs as a Job
      Then the client comes to hear "v2"

    Scenario: The new image is heard after figwasp ran as a CronJob
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as its CronJob
      Then the client comes to hear "v2"

    Scenario: The new image is heard after figwasp ran on a laptop
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs on the laptop
      Then the client comes to hear "v2"

    Scenario: A tag other than latest is followed
      Given the tag "1.2" with an image that says "v1.2.0"
      And a Deployment of that image
      And an image that says "v1.2.1" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v1.2.1"

    Scenario: A multi-platform image is followed
      Given the tag "multi" with a multi-platform image that says "v1"
      And a Deployment of that image
      And a multi-platform image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"
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
      And the Deployment has rolled out 2 times
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
      When figwasp runs as a Job
      Then figwasp succeeds and says "current, nothing to do"
      And the same pods keep running
