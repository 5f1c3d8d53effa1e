Feature: Say clearly what went wrong
  A Job that could not do its work fails, with a message that names what was missing. Pods are never
  restarted on a guess.

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
      When figwasp runs on the laptop for a Deployment named "no-such-app"
      Then figwasp fails and says "no-such-app"
