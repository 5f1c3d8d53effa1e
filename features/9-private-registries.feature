Feature: Follow images in private registries
  A registry that asks who is asking is given the credential that the pods are pulled with: their own pull
  secrets, or a docker config that is mounted into figwasp. It is given to that registry, over TLS, and to
  nobody else; no log, object or other server comes to hold it, which is looked for after every scenario.

  Background:
    Given a repository with an image of a server that says "v1"

  Rule: The pull secrets that the pods name are enough

    Scenario: The Deployment names the pull secret
      Given the repository is in a private registry
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"
      And the API server was asked for exactly this:
        | get           | deployments |
        | list          | replicasets |
        | list          | pods        |
        | get           | secrets     |
        | list          | replicasets |
        | dry-run patch | deployments |
        | patch         | deployments |
        | get           | deployments |
        | create        | events      |

    Scenario: The ServiceAccount of the pods has the pull secret
      Given the repository is in a private registry
      And a Deployment of that image, whose ServiceAccount has the pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"

    Scenario: figwasp v1's Role lets Secrets be listed, not read by name
      Given the repository is in a private registry
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs by the manifests of figwasp v1
      Then the client comes to hear "v2"

  Rule: With a docker config of its own, figwasp needs no right to read Secrets

    Scenario: A docker config is mounted from a Secret
      Given the repository is in a private registry
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job that has a docker config and no right to read Secrets
      Then the client comes to hear "v2"
      And figwasp may read no Secret
      And the API server was asked for exactly this:
        | get           | deployments |
        | list          | replicasets |
        | list          | pods        |
        | get           | secrets     |
        | list          | secrets     |
        | list          | replicasets |
        | dry-run patch | deployments |
        | patch         | deployments |
        | get           | deployments |
        | create        | events      |

  Rule: A credential is for its registry, and for the token server that belongs to it

    Scenario: The token server is under the registry's own parent domain
      Given the repository is in a private registry with a token server beside it
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"

    Scenario: The token server has an unrelated name
      Given the repository is in a private registry with a token server under an unrelated name
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then figwasp fails and says how to let it ask the token server
      And the token server was given a credential by the nodes alone
      And the same pods keep running
      When figwasp runs as a Job that is told of the token server
      Then the client comes to hear "v2"

  Rule: A credential that was refused is named, and not tried over and over

    Scenario: The password was changed at the registry
      Given the repository is in a private registry
      And a Deployment of that image, whose pull secret has gone out of date
      When figwasp runs as a Job
      Then figwasp fails and names the pull secret and its key
      And the registry has refused figwasp's login 1 time
      And the same pods keep running

    Scenario: So many wrong passwords that the registry might lock the account
      Given the repository is in a private registry
      And a Deployment of that image, with five pull secrets that have gone out of date
      When figwasp runs as a Job
      Then figwasp fails and names the pull secret and its key
      And the registry has refused figwasp's login 3 times
      And the same pods keep running

  Rule: figwasp trusts the certificates that it is told to trust, as the nodes do

    Scenario: hosts.toml names the authority
      Given the repository is in a private registry, whose authority hosts.toml names
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"

    Scenario: The authority is mounted where figwasp v1 had it
      Given the repository is in a private registry
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job that has the authority mounted as with figwasp v1
      Then the client comes to hear "v2"

    Scenario: hosts.toml leaves the certificate unverified
      Given the repository is in a private registry, whose certificate hosts.toml leaves unverified
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then figwasp succeeds and says "is not verified"
      And the client comes to hear "v2"

    Scenario: Nothing says that the certificate is to be trusted
      Given the repository is in a private registry
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job that does not know the authority
      Then figwasp fails and says "certificate"
      And the same pods keep running

  Rule: Where the nodes pull through a mirror, figwasp asks the mirror

    Scenario: A mirror that fetches what it does not have
      Given the nodes pull from the repository through a mirror
      And a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"
      And figwasp has asked the mirror, and not the registry behind it

    Scenario: The mirror asks for a credential, and the pods have one for the registry only
      Given the repository is in a private registry, behind a mirror that asks for a credential too
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"
      And the mirror was given a credential by the nodes alone
