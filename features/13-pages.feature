Feature: Do what the pages say
  The commands that the README and the other pages show are run as they stand there, after what the text
  around them asks for was done by hand.

  Background:
    Given a repository with an image of a server that says "v1"
    And a Deployment of that image

  Rule: A newcomer gets there by the commands of the README

    Scenario: The README's way into the cluster
      Given an image that says "v2" is pushed under the same tag
      When somebody runs the commands of "README.md" under "In the cluster"
      And figwasp's CronJob is due
      Then the client comes to hear "v2"
      When figwasp runs as kubectl's plugin
      Then figwasp succeeds and says "current, nothing to do"

  Rule: A user of figwasp v1 changes the image alone

    Scenario: From figwasp v1
      Given the manifests of figwasp v1 are applied, for that Deployment
      And an image that says "v2" is pushed under the same tag
      When somebody runs the commands of "docs/migrating.md" under "From figwasp v1"
      Then the client comes to hear "v2"
      When an image that says "v3" is pushed under the same tag
      And figwasp's CronJob is due
      Then the client comes to hear "v3"
