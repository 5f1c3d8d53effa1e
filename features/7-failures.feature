Feature: Say clearly what went wrong
  A Job that could not do its work fails, with a message that names what was missing. Pods are never
  restarted on a guess, and one failure never hides another workload's or container's change.

  Rule: Uncertain is never a restart

    Scenario: The Deployment does not exist
      Given a repository with an image of a server that says "v1"
      And a Deployment of that image
      When figwasp runs as a Job for a Deployment named "no-such-app"
      Then figwasp fails and says "no-such-app"
      And the same pods keep running

    Scenario: The registry is down
      Given a registry that can be stopped
      And a repository with an image of a server that says "v1"
      And a Deployment of that image
      When the registry goes down
      And figwasp runs as a Job
      Then figwasp fails and names the registry
      And the same pods keep running

    Scenario: The Deployment does not exist, asked from a laptop
      When figwasp runs with "no-such-app"
      Then figwasp fails and says "no-such-app"

  Rule: One bad image or workload never hides another

    Scenario: One image's registry is gone while the other's image moved
      Given a repository with an image of a server that says "v1"
      And a second registry with an image of a server that says "a1"
      And a Deployment of both images
      And an image that says "v2" is pushed under the same tag
      When the second registry goes down
      And figwasp runs
      Then figwasp fails and says "restarted, outdated: echo"
      And there has been one rollout

    Scenario: One of two workloads does not exist
      Given a repository with an image of a server that says "v1"
      And a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs with "no-such-app my-app"
      Then figwasp fails and says "no-such-app"
      And the client comes to hear "v2"
