Feature: Leave alone what a restart would not change
  A restart costs something. Where a fresh pod would run the same image as the old one, figwasp starts
  none, and its log says why and what to change.

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
