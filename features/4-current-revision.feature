Feature: Judge by the pods of the newest template
  During a rollout, and after an accident, pods of several templates and pods that have ended are listed
  side by side. Only what the newest template runs says whether it is outdated.

  Background:
    Given a repository with an image of a server that says "v1"

  Rule: A rollout in progress is no reason to restart, and no excuse

    Scenario: Old pods of a rollout in progress are on their way out already
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When a rollout is under way that does not end
      And figwasp runs
      Then figwasp succeeds and says "current, nothing to do"
      And there has been one rollout

    Scenario: A rollout in progress to what is no longer the newest image
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When a rollout is under way that does not end
      And an image that says "v3" is pushed under the same tag
      And figwasp runs
      Then figwasp succeeds and says "restarted, outdated: echo"
      And there have been 2 rollouts

  Rule: Where the newest template runs nowhere, there is nothing to judge

    Scenario: The pods of the newest template cannot start
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When the Deployment is changed to a tag that does not exist
      And figwasp runs
      Then figwasp succeeds and says "waiting, no pod of the current revision has started"
      And there has been one rollout

  Rule: Pods that have ended do not count

    Scenario: A failed pod is left over with the old image
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When every pod fails and is replaced, and the failed ones stay listed
      And figwasp runs
      Then figwasp succeeds and says "current, nothing to do"
      And there has been no rollout
