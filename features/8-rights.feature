Feature: Need few rights, and use no others
  figwasp lists and reads what it judges, and writes two annotations. What it asks of the API server is
  all in the Role that it ships with. Of Secrets it reads those that the pods pull with, and so none here.

  Background:
    Given a repository with an image of a server that says "v1"
    And a Deployment of that image

  Rule: It changes nothing but annotations of the pod template, and reads no Secret that no pod names

    Scenario: A run that restarts makes one change
      Given an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"
      And the API server was asked for exactly this:
        | get           | deployments |
        | list          | replicasets |
        | list          | pods        |
        | list          | replicasets |
        | dry-run patch | deployments |
        | patch         | deployments |
        | get           | deployments |
        | create        | events      |
      And the change is of two annotations of the pod template

    Scenario: A run in which nothing changed makes none
      When figwasp runs as a Job
      Then the API server was asked for exactly this:
        | get  | deployments |
        | list | replicasets |
        | list | pods        |

  Rule: Without the right to restart it says so

    Scenario: The Role grants neither patch nor update
      Given an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job without the right to patch
      Then figwasp fails and says "cannot patch resource"
      And the same pods keep running

  Rule: figwasp v1's manifests work with only the image changed

    Scenario: v1's Role grants update in place of patch
      Given an image that says "v2" is pushed under the same tag
      When figwasp runs by the manifests of figwasp v1
      Then the client comes to hear "v2"
      And the change is of two annotations of the pod template
