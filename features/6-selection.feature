Feature: Select workloads as kubectl does
  By name, by label, all of a namespace, everywhere: figwasp looks at what it is told to, and at nothing
  else. Told nothing, it looks at what carries its label.

  Background:
    Given a repository with an image of a server that says "v1"
    And a Deployment "one" of that image, labelled "team=red"
    And a StatefulSet "two" of that image, labelled "figwasp/target=true"

  Rule: Only what is selected is restarted

    Scenario: Told nothing, it takes those that carry its label
      Given an image that says "v2" is pushed under the same tag
      When figwasp runs with ""
      Then "two" has been rolled out, and "one" has not

    Scenario: By label
      Given an image that says "v2" is pushed under the same tag
      When figwasp runs with "--selector team=red"
      Then "one" has been rolled out, and "two" has not

    Scenario: By two names
      Given an image that says "v2" is pushed under the same tag
      When figwasp runs with "one statefulset/two"
      Then "one" and "two" have been rolled out

    Scenario: All of a namespace
      Given an image that says "v2" is pushed under the same tag
      When figwasp runs with "--all"
      Then "one" and "two" have been rolled out

    @exclusive
    Scenario: In all namespaces, with the ClusterRole
      Given a Deployment in another namespace that carries the same label
      And an image that says "v2" is pushed under the same tag
      When figwasp runs in the cluster for all namespaces
      Then "two" has been rolled out, and "one" has not
      And the Deployment in the other namespace has been rolled out
