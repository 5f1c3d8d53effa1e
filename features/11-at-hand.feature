Feature: See what figwasp would do, does and did
  An operator meets figwasp in a terminal, in a script, or in what kubectl describes. Each shows what was
  compared and what came of it; and before anything is changed, figwasp can be asked what it would do, and
  which rights it needs.

  Background:
    Given a repository with an image of a server that says "v1"

  Rule: A dry run says what would be done, and does nothing

    Scenario: A dry run restarts nothing
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job that is a dry run
      Then figwasp succeeds and says "would be restarted, outdated: echo"
      And the same pods keep running

  Rule: What it found can be read by a program

    Scenario: The findings of a run, as JSON
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs with "my-app -o json"
      Then figwasp succeeds, and its document says that the Deployment was restarted for the pushed image
      And the client comes to hear "v2"

  Rule: On request it tells every request and answer, and no credential

    Scenario: The conversation with a private registry
      Given the repository is in a private registry
      And a Deployment of that image, with its pull secret
      When figwasp runs as a Job that tells every request
      Then figwasp succeeds and says "manifests/latest with Basic: 200 OK"
      And the last run says "401 Unauthorized"

  Rule: What it did stands where kubectl describes it

    Scenario: A restart is told in an Event of the Deployment
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the Deployment has an Event that says from which image to which it was restarted, and that this is version "v2"
      And the Job's pod has ended with the message "restarted, outdated: echo"

    Scenario: Without the right to write Events nothing is missing
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job without the right to write Events
      Then figwasp succeeds and says "restarted, outdated: echo"
      And the client comes to hear "v2"

  Rule: On request it waits for what it started

    Scenario: The rollout completes
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs with "my-app --wait"
      Then figwasp succeeds and says "it has rolled out"
      And the client still hears "v2"

    Scenario: The pushed image does not run
      Given a Deployment of that image
      And an image that cannot run is pushed under the same tag
      When figwasp runs with "my-app --wait --timeout=20s"
      Then figwasp fails and says "Cannot follow the rollout"

    Scenario: The new pods are never ready
      Given a Deployment of that image, whose pods are ready only while they say "v1"
      And an image that says "v2" is pushed under the same tag
      When figwasp runs with "my-app --wait --timeout=20s"
      Then figwasp fails and says "1 of 2 pods updated"

  Rule: The rights that it asks for are enough, and each is needed

    Scenario: The printed Role is enough
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job with the rights that it prints, and no other
      Then figwasp succeeds and says "restarted, outdated: echo"
      And the client comes to hear "v2"

    Scenario: Less than the printed Role is not enough
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job without one after the other of the rights that it prints
      Then each of these runs fails
      And the same pods keep running

  Rule: A doctor says what is missing, and changes nothing

    Scenario: All is well
      Given a Deployment of that image
      When the doctor looks after it as a Job
      Then figwasp succeeds and says "All is well: there is nothing to do"
      And the last run says "asks for no credential"

    Scenario: The right to restart is missing
      Given a Deployment of that image
      When the doctor looks after it as a Job without the right to patch
      Then figwasp fails and says "NO  patch deployments/my-app"
      And the last run says "Grant what is missing: figwasp rbac prints the Role"

    Scenario: A private registry takes the pull secret
      Given the repository is in a private registry
      And a Deployment of that image, with its pull secret
      When the doctor looks after it as a Job
      Then figwasp succeeds and says "asks for Basic, and takes key"
      And the last run says "the only one that matches"

    Scenario: The pull secret has gone out of date
      Given the repository is in a private registry
      And a Deployment of that image, whose pull secret has gone out of date
      When the doctor looks after it as a Job
      Then figwasp fails and names the pull secret and its key
      And the last run says "asks for Basic; refused with key"
      And the last run says "give its pods a pull Secret"
      And the same pods keep running

    Scenario: The pull policy would not pull
      Given a Deployment of that image that pulls only when the image is not present
      When the doctor looks after it as a Job
      Then figwasp fails and says "imagePullPolicy is IfNotPresent"
